"""HQ's notices to the people of the store: on disk, then retained on ``store/notices`` for as long as they hold.

Strategy: the table is the truth; tills see one retained message with everything in force, said again whenever that
changes. A notice is over at its end by a clock that can be trusted; else its lifetime counts from receipt, and after a
reboot anew (`lifetimes`): a notice shown a little too long does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn

from pydantic import ValidationError

from edge.bus import topics
from edge.bus.messages.facts import first_error
from edge.bus.messages.notices import Notice, ShownNotice, StoreNotices
from edge.bus.messages.replies import Code
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services import lifetimes
from edge.services.from_hq import Believed, Delivery, NotTaken
from edge.services.lifetimes import Lifetime

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 60.0
"""The wall clock may jump, so the next end is looked at again at least this often."""

KEPT = 200
"""More than these are not kept; the oldest go first."""

NOTICES_SCHEMA = """
CREATE TABLE IF NOT EXISTS notices (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    notice TEXT NOT NULL,           -- the signed text
    boot TEXT NOT NULL,             -- of receipt
    mono_ms INTEGER NOT NULL,
    over INTEGER NOT NULL DEFAULT 0 -- its end has been seen: no clock that jumps back shows it again
) STRICT;
"""


class Notices:
    """Takes the stream ``notices``. `run` lets them end in time; `announce` says again what holds."""

    def __init__(self, store: Store, clock: Clock, believed: Believed, publish: Callable[..., None]) -> None:
        self._store = store
        self._clock = clock
        self._believed = believed
        self._publish = publish
        self._changed = asyncio.Event()
        self._said: bytes | None = None

    async def take(self, delivery: Delivery) -> None:
        """Put one notice, or a withdrawal, on disk; NotTaken when it is not HQ's word to this store."""
        text = self._believed.text_of(delivery.body)
        try:
            notice = Notice.model_validate_json(text)
        except ValidationError as error:
            raise NotTaken(Code.BAD_MESSAGE, first_error(error)) from None
        if (notice.epoch, notice.seq) != (delivery.epoch, delivery.seq):
            raise NotTaken(Code.BAD_MESSAGE, f"was signed as {notice.seq} of {notice.epoch}, came as another message")
        self._believed.speaks_to_us(notice, delivery.group)
        row = await self._store.fetch_one("SELECT notice FROM notices WHERE id = ?", (notice.id,))
        if row is not None and Notice.model_validate_json(row[0]).issued_at >= notice.issued_at:
            return  # came twice, or after what replaced it
        life = lifetimes.received(self._clock, notice.issued_at, notice.until)
        await self._store.write(
            [
                ("DELETE FROM notices WHERE id = ?", (notice.id,)),
                (
                    "INSERT INTO notices(id, notice, boot, mono_ms) VALUES (?, ?, ?, ?)",
                    (notice.id, text, life.boot, life.mono_ms),
                ),
                ("DELETE FROM notices WHERE row <= (SELECT max(row) FROM notices) - ?", (KEPT,)),
            ]
        )
        self._changed.set()

    def announce(self) -> None:
        """Say it again: the broker may have lost what it had retained."""
        self._said = None
        self._changed.set()

    async def run(self) -> NoReturn:
        """Show what holds, until cancelled."""
        while True:
            self._changed.clear()
            wait_s = await self._show()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _show(self) -> float | None:
        """Publish what holds if it is not what was said last; seconds until the next look."""
        shown: list[Notice] = []
        waits_s: list[float] = []
        rows = await self._store.fetch_all("SELECT notice, boot, mono_ms FROM notices WHERE NOT over")
        for text, boot, mono_ms in rows:
            notice = Notice.model_validate_json(text)
            life = Lifetime(notice.issued_at, notice.until, boot, mono_ms)
            left_ms = lifetimes.left_ms(self._clock, life, after_reboot_ms=life.whole_ms)
            if left_ms <= 0:
                await self._store.write([("UPDATE notices SET over = 1 WHERE id = ?", (notice.id,))], urgent=False)
            elif notice.text:
                shown.append(notice)
                waits_s.append(left_ms / 1000 + 0.001)
        shown.sort(key=lambda notice: (notice.issued_at, notice.id), reverse=True)
        message = StoreNotices(
            notices=tuple(
                ShownNotice.model_validate(notice.model_dump(include=set(ShownNotice.model_fields))) for notice in shown
            )
        )
        payload = message.model_dump_json().encode()
        if payload != self._said:
            self._publish(topics.store_subject("notices"), payload, qos=1, retain=True)
            self._said = payload
        return min(LOOK_AGAIN_S, *waits_s) if waits_s else None
