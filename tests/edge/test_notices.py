"""HQ's notices: shown while they hold, replaced, withdrawn, over in time by whatever clock there is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus import topics
from edge.bus.envelope import new_id
from edge.journal.store import Store
from edge.services import notices as notices_module
from edge.services.notices import NOTICES_SCHEMA, Notices
from tests.edge.hq_rig import BEGAN, Pen, Turnable, until, utc


class Board:
    """One store's notice board on a real store."""

    def __init__(self, store: Store, hands: Turnable) -> None:
        self.store, self.hands, self.pen = store, hands, Pen(store)

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        notices = Notices(self.store, self.hands.clock, self.pen.believed, self.pen.publish)
        self.pen.desk.serve("notices", notices.take)
        notices.announce()
        running = asyncio.create_task(notices.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def publish(self, text: str, **changes: Any) -> bool:
        fields = {
            "type": "tillgate.notice.v1",
            "id": new_id(),
            "text": text,
            "issued_at": utc(BEGAN),
            "until": utc(BEGAN.replace(hour=BEGAN.hour + 1)),
            **changes,
        }
        group = {"group": fields["group"]} if "group" in fields else {}
        return bool((await self.pen.send("notices", fields, **group))["ok"])

    async def shows(self, *texts: str) -> None:
        def shown() -> list[str] | None:
            said = self.pen.said(topics.store_subject("notices"))
            return [one["text"] for one in said[-1]["notices"]] if said else None

        await until(lambda: shown() == list(texts))


@pytest.fixture
async def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Board]:
    monkeypatch.setattr(notices_module, "LOOK_AGAIN_S", 0.05)
    hands = Turnable()
    store = await Store.open(tmp_path / "store.db", "S1", clock=hands.clock, schemas=[("notices-1", NOTICES_SCHEMA)])
    yield Board(store, hands)
    await store.close()


async def test_notices_are_shown_replaced_and_withdrawn(board: Board) -> None:
    async with board.alive():
        await board.shows()
        assert await board.publish("first", id="a")
        assert await board.publish("second", id="b", issued_at=utc(BEGAN.replace(minute=31)), group="north")
        await board.shows("second", "first")
        assert await board.publish("first, corrected", id="a", issued_at=utc(BEGAN.replace(minute=32)))
        await board.shows("first, corrected", "second")
        assert await board.publish("", id="b", issued_at=utc(BEGAN.replace(minute=33)), group="north")
        await board.shows("first, corrected")
        assert await board.publish("second", id="b", issued_at=utc(BEGAN.replace(minute=31)), group="north")
    async with board.alive():  # the same after a restart, and said again
        await board.shows("first, corrected")


async def test_only_hqs_notices_for_this_store_are_shown(board: Board) -> None:
    async with board.alive():
        assert not await board.publish("not ours", store="S2")
        assert not await board.publish("not ours", group="south")
        board.pen.key = Ed25519PrivateKey.generate()
        assert not await board.publish("forged")
        await board.shows()


async def test_a_notice_is_over_in_time(board: Board) -> None:
    async with board.alive():
        await board.publish("till half past ten")
        await board.shows("till half past ten")
        board.hands.pass_s(3601)
        await board.shows()
        board.hands.wall = BEGAN  # a clock that jumps back brings nothing back
        await board.publish("another", id="b")
        await board.shows("another")


async def test_without_a_clock_its_lifetime_counts_from_receipt_and_after_a_reboot_anew(board: Board) -> None:
    board.hands.synced = False
    board.hands.wall = BEGAN.replace(year=2019)
    board.hands.boot("boot-2")
    async with board.alive():
        await board.publish("one hour")
        await board.shows("one hour")
        board.hands.pass_s(3500)
    board.hands.mono_ms = 1_000
    board.hands.boot("boot-3")
    async with board.alive():
        await board.shows("one hour")
        board.hands.pass_s(3600)
        await board.shows()
