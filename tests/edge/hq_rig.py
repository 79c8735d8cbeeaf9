"""HQ's pen and the bridge's hand for tests of what comes down: signs, hands over, waits for the answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus import frame, topics
from edge.bus.client import Message
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.from_hq import Believed, FromHq
from edge.services.quarantine import Quarantine

EPOCH = "0197a3c4-0000-7000-8000-000000000001"
BEGAN = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


def utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def until(condition: Callable[[], Any], within_s: float = 30.0) -> Any:
    async with asyncio.timeout(within_s):
        while not (found := condition()):
            await asyncio.sleep(0.01)
        return found


class Turnable:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.wall = BEGAN
        self.mono_ms = 5_000
        self.synced = True
        self.clock = self.boot("boot-1")

    def boot(self, boot: str) -> Clock:
        self.clock = Clock(
            wall_ms=lambda: int(self.wall.timestamp() * 1000),
            mono_ms=lambda: self.mono_ms,
            synced=lambda: self.synced,
            boot=boot,
            marker=Path("/nowhere"),
        )
        return self.clock

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.mono_ms += int(seconds * 1000)


class Pen:
    """HQ's key and numbering, and the desk that messages are handed to. `answers` are what the bridge heard."""

    def __init__(self, store: Store, groups: tuple[str, ...] = ("north",)) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        self.store = store
        self.published: list[tuple[str, Any]] = []
        self.believed = Believed([self.public], "S1", groups)
        self.desk = FromHq(self.publish, Quarantine(store))
        self.seq = 0

    def publish(self, topic: str, payload: bytes, **_: Any) -> None:
        self.published.append((topic, orjson.loads(payload)))

    def said(self, topic: str) -> list[Any]:
        return [payload for at, payload in self.published if at == topic]

    def signed(self, text: str, key: Ed25519PrivateKey | None = None) -> bytes:
        signature = base64.b64encode((key or self.key).sign(text.encode())).decode()
        return orjson.dumps({"text": text, "signature": signature})

    async def hand_over(self, stream: str, body: bytes, *, seq: int | None = None, **header: Any) -> dict[str, Any]:
        """Hand one message over as the bridge does; returns its `Committed`."""
        number = seq or self.seq
        full = {"stream": stream, "epoch": EPOCH, "seq": number, **header}
        before = len(self.said(topics.BRIDGE_COMMITTED))
        self.desk.on_down(Message(topics.bridge_down(stream), frame.pack(full, body), 1, False, 1, None))
        answers = await until(lambda: self.said(topics.BRIDGE_COMMITTED)[before:])
        assert (answers[0]["stream"], answers[0]["seq"]) == (stream, number)
        return dict(answers[0])

    async def send(self, stream: str, fields: dict[str, Any], **header: Any) -> dict[str, Any]:
        """Sign `fields` with the next number and hand them over."""
        self.seq += 1
        address = {} if "group" in fields else {"store": "S1"}
        text = json.dumps({"epoch": EPOCH, "seq": self.seq, **address, **fields}, sort_keys=True)
        return await self.hand_over(stream, self.signed(text), **header)

    async def facts(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.store.fetch_all(
            "SELECT plain(class, seq, body) FROM facts WHERE type = ? ORDER BY row", (kind,)
        )
        return [json.loads(row[0])["data"] for row in rows]
