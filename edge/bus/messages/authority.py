"""Who certifies in this store: what the gateway tells all tills, and what a till gets for a certificate request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from edge.bus.messages.base import Message

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a certificate's DER, lower hex."""


class StoreAuthority(Message):
    """``store/authority``, retained. A till believes a new authority because one that it believes has signed it."""

    fingerprint: Fingerprint = Field(description="of the authority that signs now")
    trusted: str = Field(
        max_length=16_384,
        description="PEM: every authority that is believed, and the new one as the former has signed it",
    )
    since: str = Field(description="when it came to be, by the gateway's clock")
    former: Fingerprint | None = Field(default=None, description="the one before, while it is still believed")


class RenewedCertificate(Message):
    """The result of ``certificate.renew``."""

    certificate: str = Field(description="PEM: the till's own, and what it has to send along")
    trusted: str = Field(description="PEM: the authorities that the till believes from now on")
    not_after: str = Field(description="UTC; ask again when a third of its life is left")
