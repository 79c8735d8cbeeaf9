"""Journal to HQ through real brokers: everything arrives, once, whatever is cut, killed or rubbish on the way."""

from __future__ import annotations

import asyncio
import itertools
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from cloud_bridge import policy
from cloud_bridge.cursors import Cursors
from cloud_bridge.hq import schema
from cloud_bridge.outbox import Outbox
from cloud_bridge.profiles import PROFILES
from cloud_bridge.tail import Tail
from cloud_bridge.uplink import Uplink
from demo.wan import Wan
from edge.bus import frame, topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import (
    STORE,
    BridgeProcess,
    Edge,
    Mosquitto,
    a_bridge,
    a_receiver,
    at_hq,
    count_at_hq,
    in_journal,
    scalars,
    until,
)

EACH = {
    FactClass.CRITICAL: 30,
    FactClass.TRANSACTION: 120,
    FactClass.OPERATION: 40,
    FactClass.ENGAGEMENT: 10,
    FactClass.TELEMETRY: 300,
}


async def test_everything_journalled_is_at_hq_exactly_once(hq: Engine, cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port), a_bridge(config):
        await asyncio.gather(*(edge.journal(fact_class, count) for fact_class, count in EACH.items()))
        await until(lambda: edge.status and edge.status.confirmed == EACH)
        assert edge.status is not None
        assert edge.status.link == "online"
        assert edge.status.epoch == edge.store.epoch
        assert at_hq(hq) == await in_journal(edge.store)
    assert scalars(hq, schema.heads.c.duplicates) == [0] * len(EACH)
    assert scalars(hq, schema.rejected.c.id) == []


async def test_a_second_life_of_the_bridge_goes_on_where_the_first_ended(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port):
        async with a_bridge(config):
            await edge.journal(FactClass.TRANSACTION, 50)
            await until(lambda: edge.confirmed() == 50)
        await until(lambda: edge.status and edge.status.link == "unknown")
        await edge.journal(FactClass.TRANSACTION, 50)
        async with a_bridge(config):
            await until(lambda: edge.confirmed() == 100)
        assert at_hq(hq_file) == await in_journal(edge.store)
    assert scalars(hq_file, schema.heads.c.duplicates) == [0]


async def test_a_bridge_that_lost_its_own_file_is_told_by_hq_what_is_there(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port):
        await edge.journal(FactClass.TRANSACTION, 300)
        async with a_bridge(config):
            await until(lambda: edge.confirmed() == 300)
        config.bridge_db.write_bytes(b"rubbish" * 1000)
        edge.statuses.clear()
        async with a_bridge(config):
            await until(lambda: edge.confirmed() == 300)
    assert scalars(hq_file, schema.heads.c.duplicates) == [0]
    assert len(list(config.state_dir.glob("bridge.db.damaged-*"))) == 1


async def test_the_cloud_broker_is_killed_in_the_middle_of_a_drain(
    hq_file: Engine, cloud: Mosquitto, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = replace(PROFILES["safe"], connect_gap_s=0.0, retry_from_s=0.2, retry_to_s=2.0)
    monkeypatch.setitem(PROFILES, "safe", soon)
    config = configure(cloud.port, 'profile = "safe"\n')
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 3_000, noise_bytes=200)
        await edge.journal(FactClass.TRANSACTION, 1_000)
        async with a_receiver(hq_file, cloud.port), a_bridge(config):
            await until(lambda: count_at_hq(hq_file) > 100)
            await cloud.kill()
            await until(lambda: edge.status and edge.status.link == "cloud")
            await edge.journal(FactClass.CRITICAL, 20)
            await cloud.start()
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 3_000)
            await until(lambda: edge.confirmed() == 1_000 and edge.confirmed(FactClass.CRITICAL) == 20)
        assert at_hq(hq_file) == await in_journal(edge.store)


async def test_the_bridge_is_killed_again_and_again_in_a_drain(
    hq: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port, 'profile = "safe"\n')
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port):
        await edge.journal(FactClass.TELEMETRY, 4_000, noise_bytes=200)
        await edge.journal(FactClass.TRANSACTION, 2_000)
        bridge = BridgeProcess(config.file)
        for _ in range(2):
            edge.statuses.clear()
            await bridge.start()
            await until(lambda: edge.status and edge.status.link == "online")
            before = count_at_hq(hq)
            await until(lambda before=before: count_at_hq(hq) > before)
            await bridge.end(signal.SIGKILL)
            assert count_at_hq(hq) < 6_000, "the drain was over before the kill"
        await bridge.start()
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 4_000 and edge.confirmed() == 2_000)
        assert await bridge.end(signal.SIGTERM) == 0
        assert at_hq(hq) == await in_journal(edge.store)


async def test_a_receiver_dies_with_messages_in_its_hands(
    hq_file: Engine, cloud: Mosquitto, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "CONFIRM_WITHIN_S", 2.0)
    config = configure(cloud.port, 'profile = "safe"\n')
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 2_000, noise_bytes=200)
        async with a_bridge(config):
            async with a_receiver(hq_file, cloud.port):
                await until(lambda: count_at_hq(hq_file) > 0)
            async with a_receiver(hq_file, cloud.port):
                await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 2_000)
        assert at_hq(hq_file) == await in_journal(edge.store)


async def test_two_receivers_share_the_work(hq: Engine, cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port, 'profile = "safe"\n')
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 800, noise_bytes=400)
        await edge.journal(FactClass.TRANSACTION, 800, noise_bytes=400)
        async with a_receiver(hq, cloud.port, "hq-a") as one, a_receiver(hq, cloud.port, "hq-b") as two:
            async with a_bridge(config):
                await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 800 and edge.confirmed() == 800)
            assert one.recorded > 0
            assert two.recorded > 0
        assert at_hq(hq) == await in_journal(edge.store)


async def test_a_critical_fact_overtakes_a_backlog(cloud: Mosquitto, configure: Configure) -> None:
    """Seen from the cloud: after the critical fact is journalled at most the few batches in flight come before it."""
    config = configure(cloud.port, 'profile = "safe"\nconfirm = "broker"\n')
    order: list[str] = []

    def seen(message: Message) -> None:
        if topics.last_level(message.topic) != "need":
            order.append(topics.last_level(message.topic))
        message.ack()

    watcher = Client(Address(host="127.0.0.1", port=cloud.port), client_id="watcher")
    watcher.on_message(topics.HQ_UP_ANY, seen)
    async with watcher, Edge(config).running() as edge:
        await watcher.wait_connected()
        await edge.journal(FactClass.TELEMETRY, 5_000, noise_bytes=200)
        async with a_bridge(config):
            await until(lambda: len(order) >= 3)
            before = len(order)
            await edge.journal(FactClass.CRITICAL, 1)
            await until(lambda: "critical" in order)
            place = order.index("critical")
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 5_000)
    assert len(order) > place + 3, "the backlog was gone before the critical fact came: nothing was overtaken"
    assert place - before <= 10


async def test_a_half_open_line_is_noticed_and_nothing_is_lost(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    async with Wan(cloud.port) as wan:
        config = configure(wan.port)
        async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port), a_bridge(config):
            await edge.journal(FactClass.TRANSACTION, 10)
            await until(lambda: edge.confirmed() == 10)
            await wan.cut()
            await edge.journal(FactClass.TRANSACTION, 10)
            await until(lambda: edge.status and edge.status.link == "wan")
            await wan.restore()
            await until(lambda: edge.confirmed() == 20)
            assert edge.status is not None
            assert edge.status.link == "online"
            assert at_hq(hq_file) == await in_journal(edge.store)


async def test_no_packet_is_above_the_limit(cloud: Mosquitto, configure: Configure) -> None:
    """The smallest broker's limit holds for packets as they are, headers included, whatever does not compress."""
    config = configure(cloud.port, 'profile = "safe"\nconfirm = "broker"\n')
    sizes: list[int] = []
    covered: dict[str, list[tuple[int, int]]] = {}

    def seen(message: Message) -> None:
        message.ack()
        if topics.last_level(message.topic) == "need":
            return
        header, _ = frame.unpack(message.payload)
        sizes.append(len(message.payload) + len(message.topic))
        covered.setdefault(header["class"], []).append((header["first"], header["last"]))

    watcher = Client(Address(host="127.0.0.1", port=cloud.port), client_id="watcher")
    watcher.on_message(topics.HQ_UP_ANY, seen)
    async with watcher, Edge(config).running() as edge:
        await watcher.wait_connected()
        for size in (10, 30_000, 500, 60_000, 20, 200_000, 5_000):  # 200,000 hex digits do not fit into 64 KiB
            await edge.journal(FactClass.OPERATION, 20, filler="x" * size)
            await edge.journal(FactClass.OPERATION, 7, noise_bytes=size // 2)
        async with a_bridge(config):
            await until(lambda: edge.confirmed(FactClass.OPERATION) == 7 * 27)
            await until(lambda: sum(last - first + 1 for first, last in covered["operation"]) >= 7 * 27)
            await until(lambda: edge.status and edge.status.parked == 7)
    assert max(sizes) <= 64 * 1024
    ranges = sorted(covered["operation"])
    assert ranges[0][0] == 1
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))


async def test_a_fact_too_large_for_the_broker_stays_and_the_rest_is_confirmed(
    hq: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port, 'profile = "safe"\n')
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port), a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 5)
        await edge.journal(FactClass.TRANSACTION, 1, noise_bytes=100_000)
        await edge.journal(FactClass.TRANSACTION, 5)
        await until(lambda: edge.confirmed() == 11)
        await until(lambda: edge.status and edge.status.parked == 1)
    assert [seq for _, seq, _ in at_hq(hq)] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert scalars(hq, schema.gone.c.why) == ["omitted"]
    assert scalars(hq, schema.rejected.c.alarm) == [True]


async def test_a_row_changed_on_disk_is_refused_alone(hq: Engine, cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port):
        await edge.journal(FactClass.TRANSACTION, 40)
        change = (
            "UPDATE facts SET body = CAST(replace(CAST(plain(class, seq, body) AS TEXT), '1.1', '9.9') AS BLOB)"
            " WHERE seq = 17"
        )
        await edge.store.write([(change, ())])
        async with a_bridge(config):
            await until(lambda: edge.confirmed() == 40)
            await until(lambda: edge.status and edge.status.parked == 1)
    assert [seq for _, seq, _ in at_hq(hq)] == [seq for seq in range(1, 41) if seq != 17]
    assert scalars(hq, schema.gone.c.why) == ["refused"]
    assert scalars(hq, schema.rejected.c.alarm) == [True]


async def test_poison_on_the_uplink_is_kept_and_blocks_nothing(
    hq: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    poison = [
        (topics.up(STORE, "transaction"), b""),
        (topics.up(STORE, "transaction"), b"\x00\xff" * 500),
        (topics.up(STORE, "transaction"), b'TG1 {"store":"s1"}\n[]'),
        (topics.up(STORE, "nonsense"), b"{}"),
        (topics.up(STORE, "transaction") + "/deeper", b"{}"),
        (topics.up_need(STORE), b"{broken"),
        (topics.up_need(STORE), b'{"store":"other","have":{}}'),
    ]
    stranger = Client(Address(host="127.0.0.1", port=cloud.port), client_id="stranger")
    async with stranger, Edge(config).running() as edge, a_receiver(hq, cloud.port), a_bridge(config):
        for topic, payload in poison * 2:
            await stranger.publish(topic, payload)
        await edge.journal(FactClass.TRANSACTION, 20)
        await until(lambda: edge.confirmed() == 20)
        assert at_hq(hq) == await in_journal(edge.store)
    assert sorted(scalars(hq, schema.rejected.c.times)) == [2, 2, 2, 2, 2]


async def test_plain_cloudevents_for_an_hq_that_only_has_a_broker(cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port, 'wire = "single"\nconfirm = "broker"\nprotocol = "3.1.1"\n')
    got: list[Message] = []

    def seen(message: Message) -> None:
        message.ack()
        got.append(message)

    watcher = Client(Address(host="127.0.0.1", port=cloud.port), client_id="watcher")
    for fact_class in (FactClass.TRANSACTION, FactClass.TELEMETRY):
        watcher.on_message(topics.up(STORE, fact_class.value), seen)
    async with watcher, Edge(config).running() as edge:
        await watcher.wait_connected()
        await edge.journal(FactClass.TRANSACTION, 30)
        for _ in range(5):
            await edge.journal(FactClass.TELEMETRY, 1, device="printer-1")
        await edge.journal(FactClass.OPERATION, 1, noise_bytes=200_000)  # too large: stays, and blocks nothing
        async with a_bridge(config):
            await until(lambda: edge.confirmed() == 30 and edge.confirmed(FactClass.TELEMETRY) == 5)
            await until(lambda: edge.confirmed(FactClass.OPERATION) == 1)
            await until(lambda: edge.status and edge.status.parked == 1)
        journal = {body for _, _, body in await in_journal(edge.store)}
    sent = [message.payload.decode() for message in got]
    assert len(sent) == len(set(sent)) == 31  # of five states of one device only the latest
    assert set(sent) <= journal


async def test_without_cloud_the_bridge_idles_and_says_so(tmp_path: Path, configure: Configure) -> None:
    config = configure(1).model_copy(update={"cloud": None})
    async with Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and "no [cloud]" in edge.status.detail)
        assert edge.status is not None
        assert edge.status.link == "unknown"


async def test_facts_of_a_new_journal_are_never_sent_under_the_epoch_of_the_old_one(configure: Configure) -> None:
    """Edge starts anew in mid-link, finds the journal damaged and begins another, before the bridge has heard of it."""
    config = configure(1)
    sent: list[frame.Header] = []

    def publish(topic: str, payload: bytes, **more: Any) -> None:
        sent.append(frame.unpack(payload)[0])

    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TRANSACTION, 3)
        old = edge.store.epoch
    tail, cursors = Tail(config.store_db), await Cursors.open(config.bridge_db)
    uplink = Uplink(
        store=STORE, tail=tail, cursors=cursors, outbox=Outbox(in_flight=10, packet_bytes=64_000), publish=publish,
        ask=lambda: None, on_change=lambda: None,
    )  # fmt: skip
    task = asyncio.create_task(uplink.run(), name="uplink")
    try:
        await until(lambda: uplink.epoch == old)
        for file in config.store_db.parent.glob("store.db*"):
            file.rename(file.with_name(f"aside-{file.name}"))
        async with Edge(config).running() as edge:
            await edge.journal(FactClass.TRANSACTION, 5)
            new = edge.store.epoch
            uplink.on_connected(10, None)
            uplink.outbox.first_word()
            await until(lambda: sent)
            assert {str(one["epoch"]) for one in sent} == {new}
            await until(lambda: sent[-1]["last"] == 5)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await tail.close()
        await cursors.close()


def _nowhere(topic: str, payload: bytes, **more: Any) -> None:
    """A line on which nothing arrives."""


async def test_what_hq_refuses_is_noted_once_the_disk_takes_it(configure: Configure) -> None:
    config = configure(1)
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TRANSACTION, 3)
    tail, cursors = Tail(config.store_db), await Cursors.open(config.bridge_db)
    uplink = Uplink(
        store=STORE, tail=tail, cursors=cursors, outbox=Outbox(in_flight=10, packet_bytes=64_000),
        publish=lambda *_, **__: None, ask=lambda: None, on_change=lambda: None,
    )  # fmt: skip
    task = asyncio.create_task(uplink.run(), name="uplink")
    try:
        await until(lambda: uplink.epoch)
        told = Confirmed(
            epoch=uplink.epoch, confirmed={FactClass.TRANSACTION: 3}, rejected={FactClass.TRANSACTION: [2]}
        )
        said = told.model_dump_json().encode()
        await cursors.db.execute("PRAGMA query_only = ON")
        uplink.on_confirmed(Message(topics.confirmed(STORE), said, 0, False, 0, None))
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name() == "park rejected facts"),
                             return_exceptions=True)  # fmt: skip
        assert await cursors.parked() == 0
        await cursors.db.execute("PRAGMA query_only = OFF")
        uplink.on_confirmed(Message(topics.confirmed(STORE), said, 0, False, 0, None))
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name() == "park rejected facts"))
        assert await cursors.parked() == 1
    finally:
        task.cancel()
        await asyncio.wait([task])
        await tail.close()
        await cursors.close()
