"""Writing down who did what, as facts of the journal: chained, sealed and sent to HQ like every fact.

Strategy: what was done is recorded each time. What was refused or failed may come a thousand times a second from
whoever tries, so of each kind (action, outcome, lane) the first few in a minute are recorded singly and the others are
counted; the count is recorded when the minute is over, with what is known of the last. Nobody who may do nothing can
fill the disk with it, and nothing of it is silent. A minute's count that a power cut takes is lost; the first few say
that there was something.

Source: design page "In the field" (audit). The table of actions is `edge.bus.messages.facts.AUDIT_ACTIONS`.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import AuditAction, AuditOutcome, AuditRecorded
from edge.card_numbers import masked
from edge.journal.entries import Statement

SINGLY = 5
"""So many refusals of a kind in a minute are recorded each by itself."""
MINUTE_S = 60.0
KINDS = 200
"""So many kinds are told apart within a minute; what comes beyond is counted without its lane."""

_FIELDS = {"subject": 200, "detail": 500, "person": 64, "second_person": 64, "role": 32, "lane": 64}
"""How long each text may be: what strangers say of themselves is cut, not refused; card numbers in
it are masked."""


class Recording(Protocol):
    """A `Reporter`: what records a fact, and its future."""

    def __call__(self, data: Recorded, *, also: Sequence[Statement] = ...) -> Future[Any]: ...


@dataclass(slots=True)
class _Kind:
    recorded: int = 0
    counted: int = 0
    last: AuditRecorded | None = None


class Audit:
    """Records what was done, refused, or failed. Everybody in the edge process shares one."""

    def __init__(self, report: Recording) -> None:
        self._report = report
        self._kinds: dict[tuple[str, str, str | None], _Kind] = {}
        self._minute: asyncio.TimerHandle | None = None

    def record(
        self,
        action: AuditAction,
        outcome: AuditOutcome = "done",
        *,
        person: str | None = None,
        second_person: str | None = None,
        role: str | None = None,
        lane: str | None = None,
        subject: str | None = None,
        detail: str = "",
        also: Sequence[Statement] = (),
    ) -> Future[Any]:
        """Record one thing; the future is done when it is on disk (or, of many refusals, counted).

        Await it before doing what must not be done unrecorded; it raises NotStored. `also` is committed in the same
        transaction, and such an entry is never merely counted.
        """
        texts = {
            "person": person,
            "second_person": second_person,
            "role": role,
            "lane": lane,
            "subject": subject,
            "detail": detail,
        }
        cut = {name: text if text is None else masked(text)[: _FIELDS[name]] for name, text in texts.items()}
        entry = AuditRecorded.model_validate({"action": str(action), "outcome": outcome, **cut})
        if outcome == "done" or also:
            return self._report(entry, also=also)
        return self._bounded(entry)

    def _bounded(self, entry: AuditRecorded) -> Future[Any]:
        loop = asyncio.get_running_loop()
        if self._minute is None:
            self._minute = loop.call_later(MINUTE_S, self.tell)
        key = (entry.action, entry.outcome, entry.lane)
        if key not in self._kinds and len(self._kinds) >= KINDS:
            key = (entry.action, entry.outcome, None)
        kind = self._kinds.setdefault(key, _Kind())
        if kind.recorded < SINGLY:
            kind.recorded += 1
            return self._report(entry)
        kind.counted += 1
        kind.last = entry
        counted: Future[Any] = loop.create_future()
        counted.set_result(None)
        return counted

    def tell(self) -> None:
        """Record what was only counted so far: once a minute by itself, and when edge stops."""
        if self._minute is not None:
            self._minute.cancel()
            self._minute = None
        kinds, self._kinds = self._kinds, {}
        for kind in kinds.values():
            if kind.last is not None:
                self._report(kind.last.model_copy(update={"count": kind.counted}))
