"""Why a code is not delivered, in stable codes: what the till shows, what quarantine keeps.

`Rejected` is raised by whoever reads a code; the codes of `drivers.events.Noise` join them for what never became one.
"""

from __future__ import annotations

import typing

from edge.bus.messages.scans import RejectCode

CODES: frozenset[str] = frozenset(typing.get_args(RejectCode))

_AGAIN = "Scan it again"
_TYPE = "Scan it again; if it fails again, type the number"
_SETUP = (
    "Scan it again; if no code of this kind can be read, tell a technician: the scanner or its configuration is wrong"
)
_PLEASE: dict[str, str] = {
    "check_digit": _TYPE,
    "verifier_digit": _TYPE,
    "wrong_length": _TYPE,
    "not_gs1": _SETUP,
    "price_precision": "Tell a technician: the table of codes with a price inside does not fit this store's currency",
    "prefix_missing": _SETUP,
    "aim_missing": _SETUP,
    "keys_not_understood": _SETUP,
    "card_number": "Cards are read by the card terminal alone: nothing of this one was kept",
    "other_store": "This lane card is not of this store: print one with `tillgate lanes card`",
    "no_lane": "This lane card is of a lane that there is no more: print one with `tillgate lanes card`",
    "storage_full": "The lane card could not be recorded: the gateway's disk is full; tell a technician",
}


class Rejected(ValueError):
    """The code contradicts itself or cannot be used; the text says how. It is kept in quarantine and not delivered."""

    def __init__(self, code: RejectCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def known(code: str) -> str:
    """`code` where it is one of the published ones, otherwise ``garbled``."""
    return code if code in CODES else "garbled"


def please(code: str) -> str:
    """What the cashier should do."""
    return _PLEASE.get(code, _AGAIN)
