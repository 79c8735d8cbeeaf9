"""Price versions: staged, checked whole, activated at their local time, looked up; a bad one is refused whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import PriceLookup
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.facts import Reporter
from edge.services.from_hq import Believed, FromHq
from edge.services.price_staging import PRICES_SCHEMA
from edge.services.prices import Prices
from edge.services.quarantine import Quarantine
from edge.services.requests import Asked

BERLIN = ZoneInfo("Europe/Berlin")
ITEMS = [
    {"code": "4006381333931", "text": "Textmarker", "price_minor": 129, "per": "each", "tax": "A"},
    {"code": "2100017", "text": "Bananas", "price_minor": 199, "per": "kg", "tax": "B"},
    {"code": "40170725", "text": "Gum", "price_minor": 99, "per": "each", "tax": "A"},
]


class Store1:
    """One gateway's prices on a real store, and HQ's pen."""

    def __init__(self, store: Store) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.store = store
        self.published: list[tuple[str, Any]] = []
        public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        believed = Believed([public], "S1", ["north"])
        self.prices = Prices(store, BERLIN, believed, self.publish, Reporter(store, "S1"))
        self.desk = FromHq(self.publish, Quarantine(store))
        self.desk.serve("prices", self.prices.take)
        self.seq = 0
        self.came_for: dict[str, str] = {}

    def publish(self, topic: str, payload: bytes, **_: Any) -> None:
        self.published.append((topic, orjson.loads(payload)))

    async def send(self, kind: str, body: bytes, **header: Any) -> dict[str, Any]:
        """Hand one message over as the bridge does; returns the `Committed`."""
        self.seq += 1
        full = {"stream": "prices", "epoch": "e", "seq": self.seq, "kind": kind, **self.came_for, **header}
        message = Message(topics.bridge_down("prices"), frame.pack(full, body), 1, False, 1, None)
        self.desk.on_down(message)
        async with asyncio.timeout(20):
            while True:
                for topic, answer in self.published:
                    if topic == topics.BRIDGE_COMMITTED and answer["seq"] == self.seq:
                        return dict(answer)
                await asyncio.sleep(0.01)

    async def version(
        self, version: str, effective_at: str, items: list[dict[str, Any]], changes: dict[str, Any] | None = None
    ) -> list[bool]:
        """Send a whole version in chunks of two items; returns which messages were taken."""
        return [await one for one in self.messages(version, effective_at, items, changes)]

    def messages(
        self, version: str, effective_at: str, items: list[dict[str, Any]], changes: dict[str, Any] | None = None
    ) -> list[Coroutine[Any, Any, bool]]:
        """Its messages, each to be sent by awaiting it."""
        bodies = [
            zstandard.ZstdCompressor().compress(b"\n".join(orjson.dumps(item) for item in items[start : start + 2]))
            for start in range(0, len(items), 2)
        ]
        manifest = {
            "version": version,
            "store": "S1",
            "effective_at": effective_at,
            "currency": "EUR",
            "items": len(items),
            "chunks": [
                {"sha256": hashlib.sha256(body).hexdigest(), "items": len(items[2 * number : 2 * number + 2])}
                for number, body in enumerate(bodies)
            ],
            **(changes or {}),
        }
        text = json.dumps({key: value for key, value in manifest.items() if value is not None})
        signature = base64.b64encode(self.key.sign(text.encode())).decode()
        signed = orjson.dumps({"manifest": text, "signature": signature})

        async def taken(kind: str, body: bytes, **header: Any) -> bool:
            return bool((await self.send(kind, body, **header))["ok"])

        made = [taken("manifest", signed)]
        made += [taken("chunk", body, version=version, index=number) for number, body in enumerate(bodies)]
        return made

    async def for_group(self, version: str, effective_at: str, changes: dict[str, Any]) -> list[bool]:
        """As `version`, for the group ``north`` and as the bridge hands over what came for it."""
        self.came_for = {"group": "north"}
        try:
            return await self.version(version, effective_at, ITEMS, {"store": None, "group": "north", **changes})
        finally:
            self.came_for = {}

    async def states(self) -> dict[str, str]:
        return dict(await self.store.fetch_all("SELECT version, state FROM price_versions"))

    async def look_up(self, code: str) -> dict[str, Any]:
        asked = Asked("1", "r", asyncio.get_running_loop().time() + 5)
        return await self.prices.operations()["price.lookup"](asked, PriceLookup(code=code))

    async def active(self, version: str) -> None:
        """Wait until `version` is in force."""
        async with asyncio.timeout(20):
            while self.prices.active != version:
                await asyncio.sleep(0.01)

    async def facts(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.store.fetch_all(
            "SELECT plain(class, seq, body) FROM facts WHERE type = ? ORDER BY row", (kind,)
        )
        return [json.loads(row[0])["data"] for row in rows]


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Store1]:
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock(), schemas=[("prices-1", PRICES_SCHEMA)])
    made = Store1(store)
    running = asyncio.create_task(made.prices.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


async def test_a_version_is_staged_activated_and_looked_up(one: Store1) -> None:
    with pytest.raises(ProblemError) as none:
        await one.look_up("4006381333931")
    assert none.value.code is Code.NOT_FOUND
    assert all(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    await one.active("v1")
    found = await one.look_up("4006381333931")
    assert (found["price_minor"], found["currency"], found["version"]) == (129, "EUR", "v1")
    assert (await one.look_up("04006381333931"))["code"] == "4006381333931"  # GTIN-14 of the same item
    assert (await one.look_up("00000040170725"))["code"] == "40170725"  # and of a GTIN-8
    assert (await one.look_up("2100017"))["per"] == "kg"
    with pytest.raises(ProblemError):
        await one.look_up("9999999999999")
    notice = [payload for topic, payload in one.published if topic == topics.store_subject("prices")]
    assert notice[-1]["version"] == "v1"
    assert (await one.facts("tillgate.price.activated.v1"))[0]["late"] is True


async def test_it_waits_for_its_local_time_and_survives_a_restart(one: Store1, tmp_path: Path) -> None:
    assert all(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    await one.active("v1")
    soon = datetime.now(UTC).astimezone(BERLIN) + timedelta(seconds=2)
    assert all(await one.version("v2", soon.replace(tzinfo=None).isoformat(), [{**ITEMS[0], "price_minor": 139}]))
    assert (await one.look_up("4006381333931"))["price_minor"] == 129
    reborn = Prices(one.store, BERLIN, Believed((), "S1", ()), one.publish, Reporter(one.store, "S1"))
    await reborn.load()
    assert reborn.active == "v1"
    await one.active("v2")
    assert (await one.look_up("4006381333931"))["price_minor"] == 139


async def test_messages_that_come_twice_change_nothing(one: Store1) -> None:
    assert all(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    await one.active("v1")
    assert all(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    assert len(await one.facts("tillgate.price.activated.v1")) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"store": "S2"}, "not_ours"),
        ({"store": None, "group": "north"}, "not_ours"),  # it did not come for that group
        ({"group": "north"}, "bad_manifest"),
        ({"store": None}, "bad_manifest"),
        ({"effective_at": "soon"}, "bad_manifest"),
        ({"effective_at": "2026-01-01T06:00:00+02:00"}, "bad_manifest"),
        ({"items": 4}, "bad_version"),
        ({"chunks": []}, "bad_manifest"),
        ({"colour": "red"}, "bad_manifest"),
    ],
)
async def test_a_bad_version_is_refused_whole_and_the_old_one_stays(
    one: Store1, changes: dict[str, Any], code: str
) -> None:
    assert all(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    await one.active("v1")
    assert not all(await one.version("v2", "2026-01-01T06:00:00", ITEMS, changes))
    assert one.prices.active == "v1"
    refused = await one.facts("tillgate.price.refused.v1")
    assert code in {fact["code"] for fact in refused}


@pytest.mark.parametrize(
    "item",
    [
        {**ITEMS[0], "price_minor": -1},
        {**ITEMS[0], "price_minor": "1"},
        {**ITEMS[0], "per": "dozen"},
        {"code": "1"},
    ],
)
async def test_a_bad_item_refuses_the_version(one: Store1, item: dict[str, Any]) -> None:
    assert not all(await one.version("v1", "2026-01-01T06:00:00", [item]))
    assert one.prices.active is None
    assert (await one.facts("tillgate.price.refused.v1"))[0]["code"] == "bad_item"


async def test_the_same_code_twice_refuses_the_version(one: Store1) -> None:
    assert not all(await one.version("v1", "2026-01-01T06:00:00", [*ITEMS, ITEMS[0]]))
    assert (await one.facts("tillgate.price.refused.v1"))[0]["code"] == "bad_version"


async def test_nobody_else_can_sign(one: Store1) -> None:
    stranger = Ed25519PrivateKey.generate()
    one.key, real = stranger, one.key
    assert not any(await one.version("v1", "2026-01-01T06:00:00", ITEMS))
    one.key = real
    assert {fact["code"] for fact in await one.facts("tillgate.price.refused.v1")} == {"bad_signature", "no_manifest"}


def bomb_manifest(one: Store1, bomb: bytes) -> bytes:
    manifest = json.dumps(
        {
            "version": "v1",
            "store": "S1",
            "effective_at": "2026-01-01T06:00:00",
            "currency": "EUR",
            "items": 1,
            "chunks": [{"sha256": hashlib.sha256(bomb).hexdigest(), "items": 1}],
        }
    )
    signature = base64.b64encode(one.key.sign(manifest.encode())).decode()
    return orjson.dumps({"manifest": manifest, "signature": signature})


@pytest.mark.parametrize(("index", "body"), [(0, b"other"), (-1, b"x"), (1, b"x"), ("0", b"x"), (None, b"x")])
async def test_a_chunk_that_was_not_signed_is_refused(one: Store1, index: Any, body: bytes) -> None:
    assert (await one.send("manifest", bomb_manifest(one, b"x")))["ok"]
    assert not (await one.send("chunk", body, version="v1", index=index))["ok"]
    assert not (await one.send("letter", b""))["ok"]
    assert [fact["code"] for fact in await one.facts("tillgate.price.refused.v1")] == ["bad_chunk", "unknown_kind"]


async def test_a_decompression_bomb_is_refused(one: Store1) -> None:
    bomb = zstandard.ZstdCompressor().compress(b"x" * 20_000_000)
    assert (await one.send("manifest", bomb_manifest(one, bomb)))["ok"]
    answer = await one.send("chunk", bomb, version="v1", index=0)
    assert not answer["ok"]
    assert "larger than" in answer["detail"]


NINE, TEN, ELEVEN = (f"2026-05-04T{hour:02d}:00:00.000Z" for hour in (9, 10, 11))
PAST = "2000-01-01T00:00:00"


async def test_a_groups_version_is_taken_when_it_came_for_that_group(one: Store1) -> None:
    assert all(await one.for_group("g1", PAST, {"published_at": NINE}))
    await one.active("g1")
    assert not any(await one.for_group("g2", PAST, {"group": "south", "published_at": TEN}))
    one.came_for = {"group": "north"}
    assert not any(await one.version("v1", PAST, ITEMS, {"published_at": TEN}))
    assert one.prices.active == "g1"


@pytest.mark.parametrize(
    ("own", "group", "wins"),
    [
        ((PAST, NINE), (PAST, TEN), "group"),  # both at once: the one published last
        ((PAST, TEN), (PAST, NINE), "own"),
        (("2026-05-04T12:30:00", NINE), (PAST, TEN), "own"),  # 12:30 in Berlin is 10:30 UTC: its time came last
        (("2026-05-04T11:30:00", NINE), (PAST, TEN), "group"),  # 09:30 UTC, and the other from ten on
        (("2026-05-04T12:30:00", NINE), (PAST, ELEVEN), "group"),
    ],
)
@pytest.mark.parametrize("first", ["own", "group"])
async def test_which_of_two_is_in_force_does_not_depend_on_which_arrived_first(
    one: Store1, own: tuple[str, str], group: tuple[str, str], wins: str, first: str
) -> None:
    for which in (first, "group" if first == "own" else "own"):
        if which == "own":
            assert all(await one.version("own", own[0], ITEMS, {"published_at": own[1]}))
        else:
            assert all(await one.for_group("group", group[0], {"published_at": group[1]}))
    loser = "own" if wins == "group" else "group"
    async with asyncio.timeout(20):
        while await one.states() != {wins: "active", loser: "retired"} or one.prices.active != wins:
            await asyncio.sleep(0.01)
    assert (await one.look_up("2100017"))["version"] == wins


async def test_a_version_that_is_overtaken_in_mid_transfer_is_put_away(one: Store1) -> None:
    head, *chunks = one.messages("v1", PAST, ITEMS, {"published_at": NINE})
    assert await head
    assert await chunks[0]
    assert all(await one.version("v2", PAST, [{**ITEMS[0], "price_minor": 139}], {"published_at": TEN}))
    await one.active("v2")
    async with asyncio.timeout(20):
        while await one.states() != {"v1": "retired", "v2": "active"}:
            await asyncio.sleep(0.01)
    assert await chunks[1], "what still comes of it is taken and of no effect"
    assert one.prices.active == "v2"
    async with asyncio.timeout(20):
        while (await one.store.fetch_all("SELECT DISTINCT number FROM prices")) != [(2,)]:
            await asyncio.sleep(0.01)


async def test_the_version_before_stays_for_baskets_in_flight_and_older_ones_go(
    one: Store1, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.services import prices

    monkeypatch.setattr(prices, "ROWS_AT_ONCE", 2)
    for number in range(1, 5):
        at = f"2026-05-04T0{number}:00:00.000Z"
        assert all(await one.version(f"v{number}", PAST, ITEMS, {"published_at": at}))
        await one.active(f"v{number}")
    async with asyncio.timeout(20):
        while (await one.store.fetch_all("SELECT DISTINCT number FROM prices")) != [(3,), (4,)]:
            await asyncio.sleep(0.01)
