"""What the link needs of a broker besides carrying facts, asked of every real one; and what one of them cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from bench.gateway import gateway, lanes_toml
from cloud_bridge.hq import keys, price_list, schema
from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.profiles import PROFILES
from edge.bus import topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.prices import PriceNotice
from tests.cloud_bridge.rig import QUICK, BridgeProcess, Edge, a_bridge, scalars, until
from tests.clouds.brokers import Cloud, Rabbit
from tests.clouds.conftest import HOST, Link
from tests.clouds.test_flows import hq_receives
from tests.flows.plain_till import PlainTill

LIST = "code,text,price_minor,per\n4006381333931,Textmarker gelb,129,each\n2100010,Bananas,199,kg\n"


def a_client(cloud: Cloud, name: str, **more: object) -> Client:
    settings: dict[str, object] = {"protocol": 5 if cloud.mqtt5 else 4, "clean_start": True, "backoff": QUICK} | more
    return Client(
        Address(host=HOST, port=cloud.port),
        client_id=name,
        **settings,  # type: ignore[arg-type]
    )


def a_watcher(cloud: Cloud, topic_filter: str, name: str = "watcher") -> tuple[Client, list[Message]]:
    """A client and the list that fills with what it gets."""
    got: list[Message] = []

    def seen(message: Message) -> None:
        message.ack()
        got.append(message)

    watcher = a_client(cloud, name)
    watcher.on_message(topic_filter, seen)
    return watcher, got


async def test_prices_come_down_to_a_store_that_was_away_and_its_answer_goes_up(
    hq_file: Engine, cloud: Cloud, tmp_path: Path
) -> None:
    """With the real edge. Nobody keeps anything for a store but HQ's own log: it is replayed when the store asks."""
    public = keys.make(tmp_path / "hq.key")
    (tmp_path / "list.csv").write_text(LIST)
    notices: list[str] = []

    def on_notice(message: Message) -> None:
        notices.append(PriceNotice.model_validate_json(message.payload).version)
        message.ack()

    cloud_toml = (
        f'[cloud]\nhost = "{HOST}"\nport = {cloud.port}\nprofile = "{cloud.profile}"\n'
        f'protocol = "{cloud.protocol}"\nprice_key = "{public}"\n'
    )
    async with gateway(lanes_toml(1) + cloud_toml) as at, hq_receives(hq_file, cloud):
        recipient = Recipient(store=at.config.store.id)
        parts = price_list.chunks(price_list.read(tmp_path / "list.csv"))
        for name in ("v1", "v2"):
            version = price_list.manifest(recipient, name, "2000-01-01T00:00:00", "EUR", parts)
            makes = price_list.messages(version, parts, keys.load(tmp_path / "hq.key"))
            Downlog(hq_file).append(recipient.scope, "prices", makes)
        till = PlainTill(at.address, "1")
        till.client.on_message(topics.STORE_ANY, on_notice)
        async with till.client, a_bridge(at.config):
            await till.client.wait_connected()
            assert (await till.fact(till.sale(1)))["ok"]
            await until(lambda: notices and notices[-1] == "v2")
            activated = schema.facts.c.type == "tillgate.price.activated.v1"
            await until(lambda: len(scalars(hq_file, schema.facts.c.id, activated)) == 2)
            sold = schema.facts.c.type == "tillgate.sale.completed.v1"
            await until(lambda: len(scalars(hq_file, schema.facts.c.id, sold)) == 1)
    assert scalars(hq_file, schema.rejected.c.id) == []


async def test_hq_hears_of_a_bridge_that_was_killed(hq_file: Engine, cloud: Cloud, link: Link) -> None:
    """Its last will, which the broker publishes."""
    config = link(host=cloud.nodes[0].host)
    async with Edge(config).running() as edge, hq_receives(hq_file, cloud):
        bridge = BridgeProcess(config.file)
        await bridge.start()
        await edge.journal(FactClass.TRANSACTION, 5)
        await until(lambda: edge.confirmed() == 5 and scalars(hq_file, schema.store_status.c.heard_at))
        await bridge.end(signal.SIGKILL)
        await until(lambda: scalars(hq_file, schema.store_status.c.lost_at) != [None])


async def test_a_store_that_comes_back_takes_its_place_from_its_own_dead_connection(cloud: Cloud) -> None:
    """A second connection with the same client id ends the first, at whichever node it is."""
    lost = asyncio.Event()
    first = a_client(cloud, "s1")
    first.on_disconnect.append(lambda _: lost.set())
    async with first, asyncio.timeout(60):
        await first.wait_connected()
        async with a_client(cloud, "s1") as second:
            await second.wait_connected()
            await lost.wait()


async def test_a_packet_as_large_as_the_profile_says_passes(cloud: Cloud) -> None:
    size = PROFILES[cloud.profile].packet_bytes - 100
    topic = topics.up("s1", "telemetry")
    watcher, got = a_watcher(cloud, topics.HQ_UP_ANY)
    async with watcher, a_client(cloud, "sender") as sender, asyncio.timeout(60):
        await watcher.wait_connected()
        await sender.publish(topic, bytes(size))
        await until(lambda: got)
    assert len(got[0].payload) == size


async def test_an_id_with_a_dot_is_safe_where_the_configuration_lets_it_be(cloud: Cloud) -> None:
    """NATS and RabbitMQ part levels by dots: one closes on such a topic, the other takes it and hands it to nobody."""
    dotted, plain = topics.up("de.berlin", "telemetry"), topics.up("de-berlin", "telemetry")
    watcher, got = a_watcher(cloud, topics.HQ_UP_ANY)
    sender, refused = a_client(cloud, "sender"), asyncio.Event()
    sender.on_disconnect.append(lambda _: refused.set())
    async with watcher, sender, asyncio.timeout(60):
        await watcher.wait_connected()
        sender.publish_soon(dotted, b"x", on_done=lambda _: None)
        sender.publish_soon(plain, b"x", on_done=lambda _: None)
        await until(lambda: refused.is_set() or plain in [message.topic for message in got])
    assert dotted in [message.topic for message in got] or cloud.profile in ("nats", "rabbitmq")


async def test_whoever_speaks_a_newer_mqtt_than_the_broker_learns_why_it_is_not_let_in(cloud: Cloud) -> None:
    client = a_client(cloud, "new", protocol=5)
    async with client, asyncio.timeout(60):
        await until(lambda: client.connected or client.last_error)
    assert client.last_error is None if cloud.mqtt5 else re.search("MQTT 5|protocol version", str(client.last_error))


async def test_a_shared_subscription_gets_everything_or_is_no_subscription_at_all(cloud: Cloud) -> None:
    """Where a broker has none, `$share` is a topic like any other, on which nothing comes: hence ``--share none``."""
    sharer, shared = a_watcher(cloud, topics.HQ_UP_SHARED, "sharer")
    watcher, got = a_watcher(cloud, topics.HQ_UP_ANY)
    async with sharer, watcher, a_client(cloud, "sender") as sender, asyncio.timeout(60):
        await asyncio.gather(sharer.wait_connected(), watcher.wait_connected())
        for number in range(3):
            await sender.publish(topics.up("s1", "telemetry"), b"%d" % number)
        await until(lambda: len(got) == 3 and len(shared) == (3 if cloud.shared else 0))
    assert len(shared) == (3 if cloud.shared else 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("a_cloud", ["rabbitmq"], indirect=True)
async def test_rabbitmq_keeps_no_queue_of_a_client_that_has_gone(cloud: Cloud) -> None:
    """MQTT subscriptions are queues there, and one without a reader would grow for ever. With 3.10 a queue outlives its
    reader when the node dies under both: only the policy in `brokers` ends it.
    """
    assert isinstance(cloud, Rabbit)

    async def no_queue() -> None:
        async with asyncio.timeout(60):
            while await asyncio.to_thread(cloud.ctl, "list_queues", "name"):
                await asyncio.sleep(0.2)

    readers = [a_watcher(cloud, topics.HQ_UP_ANY, f"reader-{number}")[0] for number in range(len(cloud.nodes))]
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        for reader in readers:
            await stack.enter_async_context(reader)
            await reader.wait_connected()
        assert len(await asyncio.to_thread(cloud.ctl, "list_queues", "name")) == len(readers)
        cloud.nodes[-1].kill()
    await no_queue()
    await asyncio.to_thread(cloud.start)
    await no_queue()
