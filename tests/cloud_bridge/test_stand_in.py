"""The stand-in for cloud brokers is a broker: strangers' clients talk through it, and its limits bite."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge.bus.client import Address, Client, Message, Will
from tests.cloud_bridge import stand_in_packets as mqtt
from tests.cloud_bridge.rig import QUICK, until
from tests.cloud_bridge.stand_in import StandIn
from tests.cloud_bridge.stand_in_limits import AWS_IOT_CORE, AZURE_EVENT_GRID, Limits


async def spoken(program: str, port: int, *more: str) -> str:
    """What one of mosquitto's own clients printed."""
    process = await asyncio.create_subprocess_exec(
        program,
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
async def test_strangers_clients_talk_through_it(version: str) -> None:
    async with StandIn().running() as broker:
        said = ("-V", version, "-q", "1", "-F", "%t %p %r", "-C", "3", "-W", "30", "-i", "listener")
        listener = asyncio.create_task(spoken("mosquitto_sub", broker.port, *said, "-t", "a/+/c", "-t", "b/#"))
        await until(lambda: broker.subscribes)
        for topic in ("a/x/c", "a/x/d", "b", "b/1/2/3"):
            await spoken("mosquitto_pub", broker.port, "-V", version, "-q", "1", "-t", topic, "-m", f"on {topic}")
        assert (await listener).split("\n")[:3] == ["a/x/c on a/x/c 0", "b on b 0", "b/1/2/3 on b/1/2/3 0"]
        await spoken("mosquitto_pub", broker.port, "-V", version, "-q", "1", "-r", "-t", "kept", "-m", "long ago")
        kept = await spoken(
            "mosquitto_sub", broker.port, "-V", version, "-t", "kept", "-F", "%p %r", "-C", "1", "-W", "30"
        )
        assert kept.strip() == "long ago 1"
        assert broker.broken == []


def a_client(port: int, name: str, **more: object) -> Client:
    return Client(Address(host="127.0.0.1", port=port), client_id=name, backoff=QUICK, clean_start=True, **more)  # type: ignore[arg-type]


async def test_a_group_shares_and_a_will_is_published() -> None:
    got: dict[str, list[bytes]] = {"one": [], "two": [], "all": []}

    def into(name: str) -> object:
        def seen(message: Message) -> None:
            got[name].append(message.payload)
            message.ack()

        return seen

    async with StandIn().running() as broker:
        one, two, everything = (a_client(broker.port, name) for name in got)
        one.on_message("$share/g/t/#", into("one"))  # type: ignore[arg-type]
        two.on_message("$share/g/t/#", into("two"))  # type: ignore[arg-type]
        everything.on_message("#", into("all"))  # type: ignore[arg-type]
        dying = a_client(broker.port, "dying", will=Will("will", b"gone", retain=False))
        async with one, two, everything, dying:
            for client in (one, two, everything, dying):
                await client.wait_connected()
            for number in range(20):
                await one.publish(f"t/{number}", b"%d" % number)
            await until(lambda: len(got["all"]) == 20 and len(got["one"]) + len(got["two"]) == 20)
            assert len(got["one"]) == len(got["two"]) == 10
            link = broker.link("dying")
            assert link is not None
            link.reset()
            await until(lambda: got["all"][-1] == b"gone")


async def test_a_session_that_is_kept_gets_again_what_was_not_acknowledged() -> None:
    got: list[Message] = []
    async with StandIn().running() as broker:
        reader = Client(Address(host="127.0.0.1", port=broker.port), client_id="reader", backoff=QUICK)
        reader.on_message("t", got.append)
        writer = a_client(broker.port, "writer")
        async with writer:
            async with reader:
                await reader.wait_connected()
                await writer.publish("t", b"1")
                await until(lambda: got)
                link = broker.link("reader")
                assert link is not None
                link.reset()
                await until(lambda: len(got) == 2)
                got[1].ack()
            await writer.publish("t", b"2")
        again = Client(Address(host="127.0.0.1", port=broker.port), client_id="reader", backoff=QUICK)
        again.on_message("t", got.append)
        async with again:
            await until(lambda: len(got) == 3)
    assert [message.payload for message in got] == [b"1", b"1", b"2"]


@pytest.mark.parametrize(
    ("limits", "wrong", "limit"),
    [
        (Limits(packet_bytes=1_000), ("t", b"x" * 1_000), "packet_bytes"),
        (Limits(topic_slashes=3), ("a/b/c/d/e", b""), "topic"),
        (Limits(topic_bytes=10), ("t" * 11, b""), "topic"),
        (Limits(receive_maximum=2), ("t", b""), "receive_maximum"),
        (Limits(in_flight_bytes=500), ("t", b"x" * 200), "in_flight_bytes"),
        (Limits(publishes_per_s=2), ("t", b""), "publishes_per_s"),
        (Limits(bytes_per_s=1_000), ("t", b"x" * 400), "bytes_per_s"),
        (Limits(retained=False), None, "retained"),
    ],
)
async def test_who_breaks_a_limit_is_cut_off_and_noted(
    limits: Limits, wrong: tuple[str, bytes] | None, limit: str
) -> None:
    """Written in bytes here, because the product's client keeps to what it is told."""
    async with StandIn(limits, ack_after_s=30).running() as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(mqtt.packet(mqtt.CONNECT, 0, mqtt.text("MQTT") + bytes([5, 2, 0, 60, 0]) + mqtt.text("wild")))
        topic, payload = wrong or ("t", b"")
        for packet_id in range(1, 5):
            message = mqtt.Publish(topic, payload, 1)
            writer.write(mqtt.publish(message, 5, packet_id, dup=False, retain=wrong is None, qos=1))
        answers = await reader.read()
        assert answers[0] >> 4 == mqtt.CONNACK
        assert answers[-4] >> 4 == mqtt.DISCONNECT
        assert answers[-2] >= 0x80
        assert {one.limit for one in broker.broken} == {limit}
        writer.close()


async def test_who_comes_too_often_is_turned_away() -> None:
    async with StandIn(replace(AWS_IOT_CORE, connect_gap_s=3_600)).running() as broker:
        async with a_client(broker.port, "twice") as client:
            await client.wait_connected()
        async with a_client(broker.port, "twice") as client:
            await until(lambda: client.last_error)
            assert "connack:159" in str(client.last_error)
    assert {one.limit for one in broker.broken} == {"connect_gap_s"}


async def test_a_queue_that_overflows_ends_the_session() -> None:
    limits = replace(AZURE_EVENT_GRID, queued=3)
    async with StandIn(limits).running() as broker:
        sleeper = Client(Address(host="127.0.0.1", port=broker.port), client_id="sleeper", backoff=QUICK)
        sleeper.on_message("t", lambda message: message.ack())
        async with sleeper:
            await sleeper.wait_connected()
        async with a_client(broker.port, "writer") as writer:
            for _ in range(4):
                await writer.publish("t", b"x")
        present: list[bool] = []
        again = Client(Address(host="127.0.0.1", port=broker.port), client_id="sleeper", backoff=QUICK)
        again.on_connect.append(present.append)
        async with again:
            await until(lambda: present == [False])
    assert [one.limit for one in broker.broken] == ["queued"]
