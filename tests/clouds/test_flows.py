"""The same flows through every real cloud broker: all facts at HQ, once, in order, whatever is killed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Engine

from cloud_bridge.hq import schema
from cloud_bridge.hq.receiver import Receiver
from edge.bus import topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.rig import (
    BridgeProcess,
    Edge,
    a_bridge,
    a_receiver,
    at_hq,
    count_at_hq,
    in_journal,
    scalars,
    until,
)
from tests.clouds.brokers import Cloud
from tests.clouds.conftest import HOST, Link
from tests.clouds.test_receivers import ReceiverProcess

EACH = {
    FactClass.CRITICAL: 30,
    FactClass.TRANSACTION: 300,
    FactClass.OPERATION: 40,
    FactClass.ENGAGEMENT: 10,
    FactClass.TELEMETRY: 300,
}


@contextlib.asynccontextmanager
async def hq_receives(engine: Engine, cloud: Cloud, name: str = "hq") -> AsyncIterator[Receiver]:
    """A receiver as this broker lets it be."""
    async with a_receiver(engine, cloud.port, name, host=HOST, protocol=cloud.protocol, share=cloud.share) as receiver:
        yield receiver


async def test_everything_journalled_is_at_hq_exactly_once(hq: Engine, cloud: Cloud, link: Link) -> None:
    config = link()
    async with Edge(config).running() as edge, hq_receives(hq, cloud), a_bridge(config):
        await asyncio.gather(*(edge.journal(fact_class, count) for fact_class, count in EACH.items()))
        await until(lambda: edge.status and edge.status.confirmed == EACH)
        assert edge.status is not None
        assert edge.status.link == "online"
        assert at_hq(hq) == await in_journal(edge.store)
    assert scalars(hq, schema.heads.c.duplicates) == [0] * len(EACH)
    assert scalars(hq, schema.rejected.c.id) == []


async def test_the_receive_command_shares_where_the_broker_can(
    hq_file: Engine, cloud: Cloud, link: Link, tmp_path: Path
) -> None:
    more = [] if cloud.shared or not cloud.mqtt5 else ["--share", "none"]
    broker = f"{cloud.nodes[0].host}:{cloud.port}"
    receiver = ReceiverProcess(str(hq_file.url), broker, tmp_path / "receiver.log", "--protocol", cloud.protocol, *more)
    config = link()
    try:
        await receiver.start()
        async with Edge(config).running() as edge, a_bridge(config):
            await edge.journal(FactClass.TRANSACTION, 20)
            await until(lambda: edge.confirmed() == 20)
            assert at_hq(hq_file) == await in_journal(edge.store)
    finally:
        await receiver.kill()


async def test_two_receivers_do_each_other_no_harm(hq: Engine, cloud: Cloud, link: Link) -> None:
    """They share the work, or both get everything and record it once; confirmations that come twice change nothing."""
    config = link()
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 800, noise_bytes=400)
        await edge.journal(FactClass.TRANSACTION, 800, noise_bytes=400)
        async with hq_receives(hq, cloud, "hq-a") as one, hq_receives(hq, cloud, "hq-b") as two:
            async with a_bridge(config):
                await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 800 and edge.confirmed() == 800)
            assert one.recorded > 0
            assert two.recorded > 0
        assert at_hq(hq) == await in_journal(edge.store)
    assert scalars(hq, schema.rejected.c.id) == []


async def test_a_critical_fact_overtakes_a_backlog(cloud: Cloud, link: Link) -> None:
    config = link('confirm = "broker"\n')
    order: list[str] = []

    def seen(message: Message) -> None:
        message.ack()
        if topics.last_level(message.topic) in set(FactClass):
            order.append(topics.last_level(message.topic))

    watcher = Client(
        Address(host=HOST, port=cloud.port),
        client_id="watcher",
        protocol=5 if cloud.mqtt5 else 4,
        clean_start=True,
    )
    watcher.on_message(topics.HQ_UP_ANY, seen)
    async with watcher, Edge(config).running() as edge:
        await watcher.wait_connected()
        await edge.journal(FactClass.TELEMETRY, 8_000, noise_bytes=200)
        async with a_bridge(config):
            await until(lambda: len(order) >= 3)
            before = len(order)
            await edge.journal(FactClass.CRITICAL, 1)
            await until(lambda: "critical" in order)
            place = order.index("critical")
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 8_000)
            await until(lambda: len(order) > place + 3)
    assert place - before <= 10


async def test_the_bridge_is_killed_again_and_again_in_a_drain(hq_file: Engine, cloud: Cloud, link: Link) -> None:
    config = link(profile="safe", host=cloud.nodes[0].host)
    async with Edge(config).running() as edge, hq_receives(hq_file, cloud):
        await edge.journal(FactClass.TELEMETRY, 4_000, noise_bytes=200)
        await edge.journal(FactClass.TRANSACTION, 2_000)
        bridge = BridgeProcess(config.file)
        for _ in range(2):
            edge.statuses.clear()
            await bridge.start()
            before = count_at_hq(hq_file)
            await until(lambda before=before: count_at_hq(hq_file) > before)
            await bridge.end(signal.SIGKILL)
            assert count_at_hq(hq_file) < 6_000, "the drain was over before the kill"
        await bridge.start()
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 4_000 and edge.confirmed() == 2_000)
        assert await bridge.end(signal.SIGTERM) == 0
        assert at_hq(hq_file) == await in_journal(edge.store)


async def test_a_receiver_dies_with_messages_in_its_hands(hq_file: Engine, cloud: Cloud, link: Link) -> None:
    config = link()
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 3_000, noise_bytes=200)
        async with a_bridge(config):
            async with hq_receives(hq_file, cloud):
                await until(lambda: count_at_hq(hq_file) > 0)
            async with hq_receives(hq_file, cloud, "hq-2"):
                await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 3_000)
        assert at_hq(hq_file) == await in_journal(edge.store)


async def test_a_node_of_the_broker_is_killed_in_the_middle_of_a_drain(
    hq_file: Engine, cloud: Cloud, link: Link
) -> None:
    """One of three: the clients go on at another. The only one: they wait for it. The kill must hit the drain."""
    config = link()
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TELEMETRY, 4_000, noise_bytes=200)
        await edge.journal(FactClass.TRANSACTION, 1_000)
        async with hq_receives(hq_file, cloud), a_bridge(config):
            await until(lambda: count_at_hq(hq_file) > 100)
            cloud.nodes[0].kill()
            assert count_at_hq(hq_file) < 5_000, "the drain was over before the kill"
            await edge.journal(FactClass.CRITICAL, 20)
            if len(cloud.nodes) == 1:
                await until(lambda: edge.status and edge.status.link != "online")
                await asyncio.to_thread(cloud.start)
            await until(lambda: edge.confirmed(FactClass.CRITICAL) == 20)
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 4_000 and edge.confirmed() == 1_000)
        assert at_hq(hq_file) == await in_journal(edge.store)
