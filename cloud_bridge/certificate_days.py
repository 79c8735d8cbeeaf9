"""How long the certificates of the link to HQ are still good: the store's own, and the one the broker showed.

Strategy: looked at on every connection and once an hour; from `WARN_DAYS` on a person is told, every day nearer in the
same words. An end that has passed is told apart from a clock that is wrong by whether anybody disciplines this clock.
Nothing here stops anything: an expired certificate costs the link, never a sale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from edge.journal.clock import Clock, ClockTrust

WARN_DAYS = 30
LOOK_EVERY_S = 3600.0

MINE = "this store's certificate for HQ's broker"
OWN, BROKERS = "hq_certificate", "hq_broker_certificate"
"""Codes of the warnings."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is good."""

    begins: datetime
    ends: datetime


class CertificateDays:
    """`own` gives the store's certificate file, if it has one; `changed` hears that something is to be told."""

    def __init__(self, own: Callable[[], Path | None], clock: Clock, changed: Callable[[], None]) -> None:
        self.own: Validity | None = None
        self.broker_ends: datetime | None = None
        self._file = own
        self._clock = clock
        self._changed = changed
        self._unreadable = ""

    def connected(self, broker_ends_s: float | None) -> None:
        """The broker showed a certificate that is good until then (seconds since 1970)."""
        self.broker_ends = datetime.fromtimestamp(broker_ends_s, UTC) if broker_ends_s is not None else None
        self.look()

    def look(self) -> None:
        """Read the store's certificate again."""
        file = self._file()
        self.own, self._unreadable = None, ""
        if file is not None:
            try:
                self.own = validity(file)
            except (OSError, ValueError) as error:
                self._unreadable = f"{MINE} cannot be read: {error}"
        self._changed()

    async def run(self) -> NoReturn:
        """Look again now and then, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def days(self, ends: datetime | None) -> int | None:
        """Whole days until `ends` by this box's clock, below 0 when it is over; None when it is not known."""
        return None if ends is None else (ends - self._now()).days

    @property
    def own_days(self) -> int | None:
        """Of the store's own certificate."""
        return self.days(self.own.ends if self.own else None)

    @property
    def broker_days(self) -> int | None:
        """Of the broker's."""
        return self.days(self.broker_ends)

    def warnings(self) -> dict[str, str]:
        """Code -> what is wrong and what a person should do; empty when nothing is."""
        found = {OWN: self._unreadable or self._of_own(), BROKERS: self._of_broker()}
        return {code: text for code, text in found.items() if text}

    def _of_own(self) -> str:
        if self.own is None:
            return ""
        if self._now() < self.own.begins:
            return (
                f"this store's certificate for HQ's broker is good from {_day(self.own.begins)} on: {self._clock_too()}"
            )
        what = self._ending(self.own.ends, "this store's certificate for HQ's broker")
        todo = "it renews itself where HQ answers; by hand: tillgate cloud certificate request"
        return f"{what}; {todo}. The store sells on and keeps everything" if what else ""

    def _of_broker(self) -> str:
        what = self._ending(self.broker_ends, "the certificate of HQ's broker") if self.broker_ends else ""
        return f"{what}: tell HQ. The store sells on and keeps everything" if what else ""

    def _ending(self, ends: datetime, what: str) -> str:
        days = self.days(ends) or 0
        if self._now() >= ends:
            return f"{what} was good until {_day(ends)}{self._clock_too()}"
        return f"{what} is good until {_day(ends)}, {days} days from now" if days < WARN_DAYS else ""

    def _clock_too(self) -> str:
        now = self._clock.now()
        if now.trust is ClockTrust.SYNCED:
            return f": it is {now.wall[:10]}, and this clock is synchronised"
        return f", or this box's clock is wrong: it says {now.wall[:16]} and nobody sets it. Compare it with a watch"

    def _now(self) -> datetime:
        return datetime.fromisoformat(self._clock.now().wall)


def validity(file: Path) -> Validity:
    """Of the first certificate in `file` (PEM). OSError, ValueError when there is none."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
