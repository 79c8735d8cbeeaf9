"""The bus client against a real mosquitto; where a broker would not misbehave as wanted, against bytes on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from edge.bus.address import Address, TlsFiles
from edge.bus.broker import LOOPBACK, TlsListener
from edge.bus.client import (
    Backoff,
    BusError,
    BusFull,
    Client,
    Disconnected,
    Message,
    PublishRejected,
    SubscribeRefused,
    TooLarge,
    Will,
)
from edge.bus.packets import decode_puback
from tests.access.maker import Authority
from tests.edge.bus_rig import QUICK, WITHIN_S, Broker, Proxy, connected, peer, settings_in, until


def make(address: Address, client_id: str, **more: object) -> Client:
    settings: dict[str, object] = {"backoff": QUICK, "clean_start": True} | more
    return Client(address, client_id=client_id, **settings)  # type: ignore[arg-type]


async def test_more_clients_at_once_than_the_brokers_queue_holds_all_come_in_at_the_first_try(broker: Broker) -> None:
    broker.signal(signal.SIGSTOP)
    lost: list[Disconnected] = []
    clients = [make(broker.own, f"lane-{number}") for number in range(30)]
    async with contextlib.AsyncExitStack() as stack:
        try:
            for client in clients:
                client.on_disconnect.append(lost.append)
                await stack.enter_async_context(client)
            await asyncio.sleep(0)  # each has begun
            waiting = asyncio.gather(*(client.wait_connected() for client in clients))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):  # the broker takes nobody in meanwhile
                    await asyncio.shield(waiting)
        finally:
            broker.signal(signal.SIGCONT)
        async with asyncio.timeout(WITHIN_S):
            await waiting
    assert not lost


@pytest.mark.parametrize("protocol", [5, 4])
@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_a_message_crosses_with_all_that_the_protocol_can_carry(broker: Broker, way: str, protocol: int) -> None:
    address = broker.own if way == "unix" else broker.tills
    topic = f"tg/v1/lanes/c-{way}-{protocol}/facts"
    got: list[Message] = []
    reader = make(broker.own, f"reader-{way}-{protocol}", protocol=protocol)
    reader.on_message(topic, got.append)
    async with connected(reader), connected(make(address, "w", protocol=protocol, username=f"c-{way}-{protocol}")) as w:
        async with asyncio.timeout(WITHIN_S):
            await w.publish(
                topic,
                b"\x00\xff" + b"x" * 200_000,
                expiry_s=60,
                response_topic="tg/v1/lanes/1/replies",
                correlation=b"\x01\x02",
                properties={"epoch": "é1"},
            )
            await w.publish(topic, b"", qos=0)
        first, second = await until(lambda: got if len(got) == 2 else None)
    assert (first.topic, first.payload[:2], len(first.payload), first.qos) == (topic, b"\x00\xff", 200_002, 1)
    assert (second.payload, second.qos, second.retain) == (b"", 0, False)
    if protocol == 5:
        assert (first.response_topic, first.correlation) == ("tg/v1/lanes/1/replies", b"\x01\x02")
        assert first.properties == {"epoch": "é1"}
        assert first.expiry_s is not None
        assert first.expiry_s <= 60
    else:
        assert (first.response_topic, first.correlation, first.expiry_s, first.properties) == (None, None, None, {})


async def test_a_new_connection_is_told_what_is_retained(broker: Broker) -> None:
    got: list[Message] = []
    async with connected(make(broker.own, "retainer")) as client:
        await client.publish("tg/v1/devices/d9/status", b"ready", retain=True)
        await client.subscribe("tg/v1/devices/d9/+", got.append)
        message = (await until(lambda: got))[0]
        assert (message.payload, message.retain) == (b"ready", True)
        await client.publish("tg/v1/devices/d9/status", b"", retain=True)


@pytest.mark.parametrize("protocol", [5, 4])
async def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(broker: Broker, protocol: int) -> None:
    topic = f"tg/v1/bridge/ack{protocol}"
    first_life: list[Message] = []
    second_life: list[Message] = []

    def reader(got: list[Message]) -> Client:
        client = make(broker.own, f"acker{protocol}", protocol=protocol, clean_start=False)
        client.on_message(topic, got.append)
        return client

    async with connected(make(broker.own, f"sender{protocol}")) as sender:
        async with connected(reader(first_life)):
            for number in b"abc":
                await sender.publish(topic, bytes([number]))
            await until(lambda: len(first_life) == 3)
            first_life[1].ack()
            first_life[1].ack()
        first_life[0].ack()  # too late: its connection has gone
        async with connected(reader(second_life)):
            await sender.publish(topic, b"end")
            await until(lambda: second_life and second_life[-1].payload == b"end")
            for message in second_life:
                message.ack()
        async with connected(reader([])) as third:
            await third.publish("tg/v1/bridge/none", b"")
    assert [message.payload for message in second_life] == [b"a", b"c", b"end"]


@pytest.mark.parametrize("protocol", [5, 4])
async def test_a_killed_broker_costs_nothing_that_was_published_meanwhile(own_broker: Broker, protocol: int) -> None:
    got: list[bytes] = []
    sessions: list[bool] = []
    causes: list[str] = []

    def take(message: Message) -> None:
        got.append(message.payload)
        message.ack()

    client = make(own_broker.own, "survivor", protocol=protocol, clean_start=False, max_in_flight=3)
    client.on_message("tg/v1/bridge/outage", take)
    client.on_connect.append(sessions.append)
    client.on_disconnect.append(lambda reason: causes.append(reason.cause))
    async with connected(client):
        await client.publish("tg/v1/bridge/outage", b"0")
        own_broker.kill()
        await until(lambda: not client.connected)
        for number in range(1, 20):
            client.publish_soon("tg/v1/bridge/outage", b"%d" % number)
        waiting = asyncio.create_task(client.publish("tg/v1/bridge/outage", b"20"))
        await until(lambda: "refused" in causes)
        assert isinstance(client.last_error, Disconnected)
        own_broker.start()
        async with asyncio.timeout(WITHIN_S):
            await waiting
            await client.drain()
        await until(lambda: len(got) >= 21)
    assert got == [b"%d" % number for number in range(21)]
    assert causes[0] == "closed"
    assert sessions == [False, False]


async def test_a_stopped_broker_pushes_back_and_nothing_is_lost_or_out_of_order(own_broker: Broker) -> None:
    outcomes: list[BusError | None] = []
    got: list[bytes] = []
    client = make(own_broker.own, "pushed", max_in_flight=4, max_queued=10, keepalive_s=60)
    client.on_message("tg/v1/bridge/pushed", lambda message: got.append(message.payload), qos=0)
    async with connected(client):
        own_broker.signal(signal.SIGSTOP)
        for number in range(14):
            client.publish_soon("tg/v1/bridge/pushed", b"%d" % number, on_done=outcomes.append)
        with pytest.raises(BusFull, match="10 messages wait"):
            client.publish_soon("tg/v1/bridge/pushed", b"one too many")
        awaited = asyncio.create_task(client.publish("tg/v1/bridge/pushed", b"14"))
        await until(lambda: client.waiting == 15)
        assert outcomes == []
        own_broker.signal(signal.SIGCONT)
        async with asyncio.timeout(WITHIN_S):
            await awaited
            await client.drain()
        await until(lambda: len(got) == 15)
    assert got == [b"%d" % number for number in range(15)]
    assert outcomes == [None] * 14


async def test_a_half_open_connection_is_noticed(broker: Broker) -> None:
    causes: list[str] = []
    async with Proxy(broker.tills) as proxy:
        client = make(Address(host="127.0.0.1", port=proxy.port), "halfopen", username="h", keepalive_s=1)
        client.on_disconnect.append(lambda reason: causes.append(reason.cause))
        async with connected(client):
            proxy.deaf = True
            await until(lambda: causes)
            proxy.deaf = False
            await until(lambda: client.connected)
    assert causes[0] == "silent"


async def test_a_quiet_connection_is_asked_and_kept(broker: Broker) -> None:
    async with Proxy(broker.tills) as proxy:
        client = make(Address(host="127.0.0.1", port=proxy.port), "quiet", username="q", keepalive_s=4)
        async with connected(client):
            await until(lambda: proxy.last == b"\xd0\x00")  # the answer to a ping
            await client.publish("tg/v1/lanes/q/facts", b"")
    assert client.counters.connections == 1


async def test_a_connection_that_fails_says_which_way(
    broker: Broker, free_port: Callable[[], int], tmp_path: Path
) -> None:
    async def cause_of(address: Address, **more: object) -> str:
        causes: list[str] = []
        client = make(address, "hopeless", connect_timeout_s=1.0, **more)
        client.on_disconnect.append(lambda reason: causes.append(reason.cause))
        async with client:
            await until(lambda: causes)
            assert not client.connected
        return causes[0]

    assert await cause_of(Address(host="127.0.0.1", port=free_port())) == "refused"
    assert await cause_of(Address(socket=tmp_path / "nothing.sock")) == "refused"
    assert await cause_of(Address.parse("mqtts://127.0.0.1:1", TlsFiles(ca=tmp_path / "no.pem"))) == "tls"
    async with peer() as mute:
        assert await cause_of(Address(host="127.0.0.1", port=mute)) == "silent"
    async with peer(b"HTTP/1.1 400 Bad Request\r\n" * 9) as other:
        assert await cause_of(Address(host="127.0.0.1", port=other)) == "closed"
    async with peer(b"\x20\x02\x00\x05") as refusing:
        assert await cause_of(Address(host="127.0.0.1", port=refusing), protocol=4) == "connack:135"


async def test_over_tls_the_certificate_is_the_lane(tmp_path: Path, free_port: Callable[[], int]) -> None:
    authority, stranger = Authority(tmp_path / "a"), Authority(tmp_path / "s")
    port = free_port()
    listener = TlsListener(authority.serve(), LOOPBACK, port)
    secure = Broker(settings_in(tmp_path / "b", None, tls=listener)).start()

    def till(tls: TlsFiles, **more: object) -> Client:
        return make(Address(host="127.0.0.1", port=port, tls=tls), "till", username="9", **more)

    try:
        lane_1 = authority.issue("1")
        for protocol in (5, 4):
            async with connected(till(lane_1, protocol=protocol)) as client:
                await client.publish("tg/v1/lanes/1/facts", b"x" * 100_000)
        async with connected(till(lane_1)) as client:
            with pytest.raises(PublishRejected):
                await client.publish("tg/v1/lanes/9/facts", b"the user name counts for nothing")
        pinned = TlsFiles(lane_1.ca, lane_1.certificate, lane_1.key, server_name="gateway")
        async with connected(till(pinned)):
            pass
        bad = (
            TlsFiles(stranger.ca, lane_1.certificate, lane_1.key),
            TlsFiles(lane_1.ca, lane_1.certificate, lane_1.key, server_name="another"),
            TlsFiles(lane_1.ca),
        )
        for tls in bad:
            async with till(tls) as client:
                error = await until(lambda client=client: client.last_error)
            # TLS 1.3: a client without certificate is refused after the handshake; the reset may overtake the alert.
            assert error.cause == "tls" or (tls.certificate is None and error.cause == "closed"), error
    finally:
        secure.stop()


async def test_a_handler_that_raises_is_reported_and_blocks_nothing(broker: Broker) -> None:
    bugs: list[str] = []
    seen_by_loop: list[object] = []
    got: list[bytes] = []

    def handler(message: Message) -> None:
        if message.payload == b"poison":
            raise KeyError("a bug")
        got.append(message.payload)
        message.ack()

    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen_by_loop.append(context["exception"]))
    client = make(broker.own, "buggy", clean_start=False, on_bug=lambda topic, _: bugs.append(topic))
    client.on_message("tg/v1/bridge/buggy", handler)
    async with connected(client):
        for payload in (b"1", b"poison", b"2"):
            client.publish_soon("tg/v1/bridge/buggy", payload)
        await until(lambda: len(got) == 2)
        await until(lambda: bugs)
        assert client.connected
    assert bugs == ["tg/v1/bridge/buggy"]
    assert isinstance(seen_by_loop[0], KeyError)
    assert client.counters.bugs == 1
    again = make(broker.own, "buggy", clean_start=False)
    again.on_message("tg/v1/bridge/buggy", lambda message: got.append(b"came again"))
    async with connected(again):
        await again.publish("tg/v1/bridge/none", b"")
    assert got == [b"1", b"2"]


async def test_what_expires_in_an_outage_is_never_sent(own_broker: Broker) -> None:
    got: list[bytes] = []
    outcomes: list[BusError | None] = []
    client = make(own_broker.own, "late")
    client.on_message("tg/v1/lanes/1/scans", lambda message: got.append(message.payload), qos=0)
    async with connected(client):
        own_broker.kill()
        await until(lambda: not client.connected)
        client.publish_soon("tg/v1/lanes/1/scans", b"late", expiry_s=1, on_done=outcomes.append)
        client.publish_soon("tg/v1/lanes/1/scans", b"in time", expiry_s=60)
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(Disconnected, match="expired"):
                await client.publish("tg/v1/lanes/1/scans", b"late too", expiry_s=1)
        own_broker.start()
        await until(lambda: got)
        await client.publish("tg/v1/lanes/1/scans", b"end")
        await until(lambda: got[-1] == b"end")
    assert got == [b"in time", b"end"]
    assert isinstance(outcomes[0], Disconnected)
    assert outcomes[0].cause == "expired"
    assert client.counters.expired == 2


async def test_without_a_connection_qos_0_is_dropped_and_a_cancelled_publish_withdrawn(own_broker: Broker) -> None:
    got: list[bytes] = []
    outcomes: list[BusError | None] = []
    client = make(own_broker.own, "dropper")
    client.on_message("tg/v1/bridge/dropped", lambda message: got.append(message.payload), qos=0)
    async with connected(client):
        own_broker.kill()
        await until(lambda: not client.connected)
        client.publish_soon("tg/v1/bridge/dropped", b"qos 0", qos=0, on_done=outcomes.append)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.publish("tg/v1/bridge/dropped", b"given up")
        await until(lambda: outcomes)
        assert client.waiting == 0
        own_broker.start()
        async with asyncio.timeout(WITHIN_S):
            await client.publish("tg/v1/bridge/dropped", b"end")
        await until(lambda: b"end" in got)
    assert got == [b"end"]
    assert client.counters.dropped_qos0 == 1


async def test_what_the_broker_rejects_is_told_and_blocks_nothing(broker: Broker) -> None:
    outcomes: list[BusError | None] = []
    async with connected(make(broker.tills, "rejected", username="r1")) as till:
        assert till.server_limits.max_packet_bytes == broker.settings.max_packet_bytes
        with pytest.raises(PublishRejected, match="not authorized") as rejected:
            await till.publish("tg/v1/lanes/r2/facts", b"{}")
        assert rejected.value.reason_code == 0x87
        with pytest.raises(TooLarge):
            await till.publish("tg/v1/lanes/r1/facts", b"x" * 1_000_000)
        till.publish_soon("tg/v1/lanes/r2/facts", b"{}", on_done=outcomes.append)
        till.publish_soon("tg/v1/lanes/r1/facts", b"{}", on_done=outcomes.append)
        await till.drain()
        await until(lambda: len(outcomes) == 2)
    assert isinstance(outcomes[0], PublishRejected)
    assert outcomes[1] is None
    # MQTT 3.1.1 brokers name no limit: our own stands in, so that one message cannot cost every connection.
    async with connected(make(broker.tills, "rejected4", username="r1", protocol=4, max_packet_bytes=9_000)) as old:
        with pytest.raises(TooLarge):
            await old.publish("tg/v1/lanes/r1/facts", b"x" * 10_000)
        await old.publish("tg/v1/lanes/r1/facts", b"x")


async def test_a_refused_subscription_is_an_error() -> None:
    connack = b"\x20\x03\x00\x00\x00"
    async with peer(connack, b"\x90\x04\x00\x01\x00\x87") as port:
        client = make(Address(host="127.0.0.1", port=port), "unwelcome")
        client.on_message("tg/v1/gateway/#", lambda message: None)
        async with connected(client):
            assert isinstance(client.last_error, SubscribeRefused)
            assert client.last_error.topic_filter == "tg/v1/gateway/#"
        other = make(Address(host="127.0.0.1", port=port), "unwelcome")
        async with connected(other):
            with pytest.raises(SubscribeRefused, match="Not authorized"):
                await other.subscribe("tg/v1/gateway/#", lambda message: None)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x30\x03\x00\x09x",  # a topic longer than its packet
        b"\x30\xff\xff\xff\xff\x7f",  # a length of five bytes
        b"\x34\x05\x00\x01x\x00\x01",  # QoS 2
        b"\x30\x04\x00\x01\xff\x00",  # a topic that is no UTF-8
        b"\x30\x06\x00\x01x\x02\x7e\x00",  # an unknown property
        b"\x30\x80\x80\x80\x7f",  # more than was agreed
        b"\x40\x01\x00",  # a PUBACK cut off
        b"\x90\x00",  # an empty SUBACK
        b"\x20\x00",  # a second CONNACK, empty
        b"\x00\x00\x00",
        b"\xf0\x01\x00",
    ],
)
async def test_rubbish_from_the_other_end_costs_the_connection_and_no_more(rubbish: bytes) -> None:
    async with peer(b"\x20\x03\x00\x00\x00" + rubbish) as port:
        client = make(Address(host="127.0.0.1", port=port), "patient")
        async with client:
            await until(lambda: client.counters.connections + bool(client.last_error) >= 1)
            error = await until(lambda: client.last_error)
            assert isinstance(error, Disconnected)
            assert error.cause == "closed"


async def test_a_good_bye_leaves_no_will_and_no_task_and_a_death_leaves_the_will(broker: Broker) -> None:
    got: list[bytes] = []
    before = asyncio.all_tasks()
    watcher = make(broker.own, "watcher")
    watcher.on_message("tg/v1/lanes/w1/presence", lambda message: got.append(message.payload))
    will = Will("tg/v1/lanes/w1/presence", b"gone", retain=False)
    async with connected(watcher):
        async with connected(make(broker.tills, "w1", username="w1", will=will)) as till:
            await till.publish(will.topic, b"here")
        async with Proxy(broker.tills) as proxy:
            address = Address(host="127.0.0.1", port=proxy.port)
            async with connected(make(address, "w1", username="w1", will=will)) as till:
                await till.publish(will.topic, b"here again")
                proxy.deaf = True  # the good-bye will not arrive
        await until(lambda: got[-1:] == [b"gone"])
    assert got == [b"here", b"here again", b"gone"]
    with pytest.raises(Disconnected, match="closed"):
        till.publish_soon(will.topic, b"after the end")
    await until(lambda: asyncio.all_tasks() == before)


async def test_leaving_fails_what_still_waits(free_port: Callable[[], int]) -> None:
    outcomes: list[BusError | None] = []
    client = make(Address(host="127.0.0.1", port=free_port()), "leaver")
    async with client:
        client.publish_soon("a", b"", on_done=outcomes.append)
        waiting = asyncio.create_task(client.publish("a", b""))
        await until(lambda: client.waiting == 2)
    with pytest.raises(Disconnected):
        await waiting
    assert isinstance(outcomes[0], Disconnected)


async def test_a_broker_that_says_good_bye_is_quoted() -> None:
    async with peer(b"\x20\x03\x00\x00\x00\xe0\x01\x8e") as port:
        client = make(Address(host="127.0.0.1", port=port), "namesake")
        async with client:
            error = await until(lambda: client.last_error)
    assert "another program uses the client id 'namesake'" in str(error)


async def test_two_programs_with_one_name_take_turns_without_hurry(broker: Broker) -> None:
    lost: list[Disconnected] = []
    first, second = (make(broker.own, "twin", backoff=Backoff(30, 30)) for _ in range(2))
    first.on_disconnect.append(lost.append)
    async with connected(first), connected(second):
        await until(lambda: lost)
        assert second.connected
    assert lost[0].cause == "closed"


async def test_subscriptions_may_come_and_go_while_connected(broker: Broker) -> None:
    got: list[str] = []
    async with connected(make(broker.own, "comer")) as client:
        await client.subscribe("tg/v1/bridge/come/+", lambda message: got.append(message.topic))
        await client.publish("tg/v1/bridge/come/1", b"")
        await until(lambda: got)
        await client.unsubscribe("tg/v1/bridge/come/+")
        await client.subscribe("$share/hq/tg/v1/bridge/shared/#", lambda message: got.append(message.topic))
        await client.publish("tg/v1/bridge/come/2", b"")
        await client.publish("tg/v1/bridge/shared/3", b"")
        await until(lambda: len(got) == 2)
    assert got == ["tg/v1/bridge/come/1", "tg/v1/bridge/shared/3"]


async def test_what_cannot_be_published_is_said_at_once(broker: Broker) -> None:
    async with connected(make(broker.own, "strict")) as client:
        for topic in ("", "a/+/b", "a/#", "a\0b"):
            with pytest.raises(ValueError, match="nothing can be published"):
                client.publish_soon(topic, b"")
        with pytest.raises(ValueError, match="QoS 2"):
            await client.publish("a", b"", qos=2)


def test_the_library_still_uses_the_two_hooks_that_we_take() -> None:
    assert "self._sock = self._create_socket()" in inspect.getsource(paho.Client.reconnect)
    assert "self._mid_generate()" in inspect.getsource(paho.Client._send_subscribe)
    assert decode_puback(b"\x00\x07") == (7, 0)


# -- a name with several addresses -----------------------------------------------------------------------------------


async def test_an_address_that_is_silent_costs_one_attempt(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has lost its power answers nothing, not even that: the next attempt begins with another address."""
    port = broker.tills.port
    with socket.socket() as silent:  # takes connections, as far as the kernel does, and says nothing
        silent.bind(("127.0.0.2", port))
        silent.listen()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        resolve = socket.getaddrinfo

        def look_up(host: object, *more: object, **options: object) -> object:
            return found if host == "broker.example" else resolve(host, *more, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        address = Address(host="broker.example", port=port)
        async with connected(make(address, "c-turns", username="c-turns", connect_timeout_s=0.5)) as client:
            assert client.counters.connections == 1
