"""Money as people read it. Everywhere else it is whole minor units and an ISO 4217 code."""

from __future__ import annotations

_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"


def minor_digits(currency: str) -> int:
    """How many decimals an ISO 4217 currency has."""
    return 0 if currency in _NO_DECIMALS else 3 if currency in _THREE_DECIMALS else 2


def amount_text(minor: int, currency: str, decimal_point: str = ".") -> str:
    """``1234`` in EUR as ``12.34``, in JPY as ``1234``; no currency, no grouping."""
    digits = minor_digits(currency)
    text = str(abs(minor)).rjust(digits + 1, "0")
    sign = "-" if minor < 0 else ""
    return sign + (f"{text[:-digits]}{decimal_point}{text[-digits:]}" if digits else text)
