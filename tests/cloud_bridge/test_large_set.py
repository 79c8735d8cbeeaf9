"""A large price version on its way: cut, reset, bridge and edge killed. It completes whole, little travels twice."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from bench.gateway import Gateway, gateway, lanes_toml
from cloud_bridge.hq import keys, price_list
from cloud_bridge.hq.downlog import WINDOW, Downlog
from cloud_bridge.hq.recipients import Recipient
from demo.wan import Wan
from edge.bus import frame, topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.links import BridgeStatus
from edge.bus.messages.prices import PRICES_STREAM, PriceItem, PriceNotice
from edge.children import DIE_WITH_PARENT
from tests.cloud_bridge.rig import BridgeProcess, Mosquitto, a_receiver, until

ITEMS = 6_000
STORE = Recipient(store="BENCH")


class Transfer:
    """One store at the end of a slow line. `sent` counts what HQ published; `shown`: the versions tills were told."""

    def __init__(self, hq: Engine, at: Gateway, wan: Wan, key: Ed25519PrivateKey) -> None:
        self.hq, self.at, self.wan, self.key = hq, at, wan, key
        self.sent: Counter[int] = Counter()
        self.shown: list[str] = []
        self.links: list[str] = []
        self.bridge = BridgeProcess(at.config.file)

    def publish(self, version: str, count: int) -> int:
        """Into HQ's log, while no store is connected or one is; returns how many messages it makes."""
        items = [
            PriceItem(code=f"{n:06d}", text=hashlib.sha256(b"%d" % n).hexdigest(), price_minor=n) for n in range(count)
        ]
        parts = price_list.chunks(items)
        manifest = price_list.manifest(STORE, version, "2000-01-01T00:00:00", "EUR", parts)
        makes = price_list.messages(manifest, parts, self.key)
        Downlog(self.hq).append(STORE.scope, PRICES_STREAM, makes, price_list.noted(manifest, len(makes)))
        return len(makes)

    def chunks(self) -> int:
        """How many chunks edge has on disk, all versions together."""
        with contextlib.closing(sqlite3.connect(f"file:{self.at.config.store_db}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM price_chunks").fetchone()[0])

    def prices(self) -> dict[str, tuple[str, int]]:
        """Version -> state and number of prices."""
        query = (
            "SELECT version, state, (SELECT count(*) FROM prices WHERE prices.number = price_versions.number)"
            " FROM price_versions"
        )
        with contextlib.closing(sqlite3.connect(f"file:{self.at.config.store_db}?mode=ro", uri=True)) as db:
            return {row[0]: (row[1], row[2]) for row in db.execute(query)}

    async def kill_edge(self) -> None:
        before = self.at.processes["edge"]
        before.kill()
        await before.wait()
        command = (*DIE_WITH_PARENT, sys.executable, "-m", "edge.daemon", "--config", str(self.at.config.file))
        with self.at.log.open("ab") as out:
            self.at.processes["edge"] = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)

    def on_sent(self, message: Message) -> None:
        if topics.last_level(message.topic) == PRICES_STREAM:
            self.sent[int(frame.unpack(message.payload)[0]["seq"])] += 1
        message.ack()

    def on_notice(self, message: Message) -> None:
        self.shown.append(PriceNotice.model_validate_json(message.payload).version)
        message.ack()

    def on_link(self, message: Message) -> None:
        self.links.append(BridgeStatus.model_validate_json(message.payload).link)
        message.ack()


@pytest.fixture
async def transfer(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Transfer]:
    monkeypatch.setattr(price_list, "MAX_CHUNK_BYTES", 4 * 1024)  # many chunks, and still quick
    public = keys.make(tmp_path / "hq.key")
    async with Wan(cloud.port, down_kbit=1_000) as wan:
        table = f'[cloud]\nhost = "127.0.0.1"\nport = {wan.port}\nprofile = "mosquitto"\nprice_key = "{public}"\n'
        async with gateway(lanes_toml(1) + table) as at:
            made = Transfer(hq_file, at, wan, keys.load(tmp_path / "hq.key"))
            tap = Client(Address(host="127.0.0.1", port=cloud.port), client_id="tap", clean_start=True)
            tap.on_message(topics.down_any("BENCH"), made.on_sent)
            till = Client(Address(socket=at.config.broker_socket), client_id="till", clean_start=True)
            till.on_message(topics.store_subject("prices"), made.on_notice)
            till.on_message(topics.BRIDGE_STATUS, made.on_link)
            async with tap, till:
                await tap.wait_connected()
                await till.wait_connected()
                yield made
                await made.bridge.end(signal.SIGTERM)


@pytest.mark.parametrize("fault", ["none", "edge", "bridge", "reset", "cut"])
async def test_it_completes_whole_and_what_was_taken_is_not_fetched_again(
    transfer: Transfer, cloud: Mosquitto, hq_file: Engine, fault: str
) -> None:
    small = transfer.publish("small", 10)
    async with a_receiver(hq_file, cloud.port):
        await transfer.bridge.start()
        await until(lambda: transfer.shown == ["small"])
        await transfer.bridge.end(signal.SIGTERM)
        count = transfer.publish("large", ITEMS)  # while the store is away
        assert count > 2 * WINDOW
        await transfer.bridge.start()
        begun = await until(lambda: (have := transfer.chunks()) > 10 and have)
        assert begun < count, "the fault comes in the middle"
        match fault:
            case "edge":
                await transfer.kill_edge()
            case "bridge":
                await transfer.bridge.end(signal.SIGKILL)
                await transfer.bridge.start()
            case "reset":
                transfer.wan.reset()
            case "cut":
                await transfer.wan.cut()
                await until(lambda: transfer.links[-1] not in ("online", "unknown"))
                assert transfer.prices()["large"][0] == "receiving"
                assert transfer.shown[-1] == "small"
                await transfer.wan.restore()
        await until(lambda: transfer.shown[-1] == "large")
    assert set(transfer.shown) == {"small", "large"}
    assert transfer.prices()["large"] == ("active", ITEMS)
    assert set(transfer.sent) == set(range(1, small + count + 1))
    again = transfer.sent.total() - len(transfer.sent)
    assert again <= (WINDOW if fault in ("bridge", "reset", "cut") else 0), "what was on the line, and nothing else"


async def test_a_version_that_is_overtaken_while_it_travels_is_not_sent_to_its_end(
    transfer: Transfer, cloud: Mosquitto, hq_file: Engine
) -> None:
    count = transfer.publish("large", ITEMS)
    async with a_receiver(hq_file, cloud.port):
        await transfer.bridge.start()
        await until(lambda: transfer.chunks() > 3)
        transfer.publish("newer", 10)
        await until(lambda: transfer.shown == ["newer"])
        await until(lambda: transfer.prices() == {"large": ("retired", 0), "newer": ("active", 10)})
    assert len([seq for seq in transfer.sent if seq <= count]) <= 2 * WINDOW < count


async def test_of_two_receivers_that_hear_everything_one_answers(
    transfer: Transfer, cloud: Mosquitto, hq_file: Engine
) -> None:
    """A broker without shared subscriptions: both get the store's question."""
    count = transfer.publish("large", ITEMS)
    async with (
        a_receiver(hq_file, cloud.port, "one", share="none"),
        a_receiver(hq_file, cloud.port, "two", share="none"),
    ):
        await transfer.bridge.start()
        await until(lambda: transfer.shown == ["large"])
    assert transfer.sent == Counter(dict.fromkeys(range(1, count + 1), 1))
