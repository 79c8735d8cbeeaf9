"""Attacks on the bus: a real mosquitto that asks for certificates, a real edge behind it, packets made by hand."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from edge.bus.address import TlsFiles
from edge.children import DIE_WITH_PARENT
from tests.access.attacker import (
    PUBLISH,
    V5,
    V311,
    Attacker,
    Gone,
    Will,
    anything_goes,
    attacker,
    packet,
    text,
)
from tests.access.maker import FOR_SERVERS, Authority, self_signed
from tests.access.site_rig import Site, request, running_edge, site
from tests.edge.bus_rig import until

NOT_AUTHORISED, TAKEN_OVER, TOO_LARGE = 0x87, 0x8E, 0x95
BOTH = pytest.mark.parametrize("version", [V5, V311])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path / "store") as one:
        yield one


async def let_in(store: Site, lane: str, version: int = V5, files: TlsFiles | None = None) -> Attacker:
    """A connected till of this lane; it ends with the test's loop."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", store.port, ssl=anything_goes(files or store.lane(lane))
    )
    one = Attacker(reader, writer, version)
    assert await one.connect(client_id=f"till-{lane}") == 0
    return one


async def refused(store: Site, trust: TlsFiles | ssl.SSLContext | None) -> str:
    """How the broker refuses this one, at the handshake or at the first read after it."""
    with pytest.raises(Gone) as gone:
        async with attacker(store.port, trust if trust is not None else anything_goes()) as stranger:
            await stranger.connect("1", username="1")
    return str(gone.value)


async def asks(till: Attacker, lane: str, request_id: str) -> dict[str, object]:
    """Ask for help, and read until the answer is there."""
    await till.publish(f"tg/v1/lanes/{lane}/requests/help", request(request_id, operation="help"))
    while True:
        for topic, payload in till.received:
            if topic.endswith("/replies") and orjson.loads(payload)["to"] == request_id:
                return dict(orjson.loads(payload))
        async with asyncio.timeout(30):
            await till.read()


async def serves(store: Site, lane: str = "2") -> None:
    """Another lane is served as ever."""
    till = await let_in(store, lane)
    assert await till.subscribe(f"tg/v1/lanes/{lane}/replies") < 128
    assert (await asks(till, lane, f"alive-{len(store.heard)}"))["ok"] is True
    till.drop()


# -- who is let in -----------------------------------------------------------------------------------------------------


async def test_attack_strangers_certificates(store: Site, tmp_path: Path) -> None:
    """Somebody on the store's network comes without a certificate, with another store's of the same name, with one
    signed by itself, an expired one, one not yet valid, or a server's own: the handshake ends, no MQTT is spoken.
    """
    other = Authority(tmp_path / "other", store.authority.name)
    gateway = store.lane("1", file="server", purposes=(FOR_SERVERS,))
    for trust in (
        None,
        other.issue("1"),
        self_signed(tmp_path / "self", "1"),
        store.lane("1", days=(-30, -1), file="expired"),
        store.lane("1", days=(1, 30), file="tomorrow"),
        gateway,
    ):
        await refused(store, trust)
    assert not [line for line in store.broker.log.splitlines() if "New client connected from 127.0.0.1" in line]
    await serves(store)


async def test_attack_revoked_certificate(store: Site) -> None:
    """A stolen till whose certificate was revoked comes anew: the handshake ends as soon as the list was read."""
    stolen = store.lane("1", file="stolen")
    mine = store.lane("2")
    (await let_in(store, "1", files=stolen)).drop()
    store.authority.revoke(stolen)
    store.reload()
    await until(lambda: "Reloading config." in store.broker.log)
    await refused(store, stolen)
    (await let_in(store, "2", files=mine)).drop()
    assert "as 1 (" not in store.broker.log.rpartition("Reloading config.")[2]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_attack_downgrade_of_tls(store: Site, minimum: ssl.TLSVersion) -> None:
    """A till is made to offer old TLS, or ciphers without forward secrecy: the broker speaks none of them."""
    files = store.lane("1")
    old = anything_goes(files)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = minimum
    await refused(store, old)
    weak = anything_goes(files)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("kRSA:AES256-SHA256:ECDHE+AES:!AESGCM:@SECLEVEL=0")
    await refused(store, weak)
    good = anything_goes(files)
    good.maximum_version = ssl.TLSVersion.TLSv1_2
    async with attacker(store.port, good) as till:
        assert await till.connect() == 0
        assert till.writer.get_extra_info("cipher")[0].startswith("ECDHE-ECDSA")


async def test_attack_downgrade_to_plain(store: Site) -> None:
    """A till or an attacker speaks plain MQTT to the store's port, and there is no other port: nothing is answered."""
    async with attacker(store.port) as plain:
        with pytest.raises(Gone):
            await plain.connect("1", username="1")
    listening = await asyncio.to_thread(_listeners, store)
    assert listening == {("127.0.0.1", store.port)}
    await serves(store)


def _listeners(store: Site) -> set[tuple[str, int]]:
    """The TCP sockets on which the broker listens, from the kernel's tables (proc(5))."""
    inodes = set()
    for link in Path(f"/proc/{store.broker.pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            address, port = fields[1].split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


# -- what a lane may do ------------------------------------------------------------------------------------------------


@BOTH
async def test_attack_another_lanes_topics(store: Site, version: int) -> None:
    """A till publishes as another lane, as the gateway, the bridge or a technician: the broker passes none of it on."""
    till = await let_in(store, "1", version)
    for topic in (
        "tg/v1/lanes/2/facts",
        "tg/v1/lanes/2/requests/print",
        "tg/v1/lanes/2/presence",
        "tg/v1/lanes/2/replies",
        "tg/v1/lanes/1/scans",
        "tg/v1/lanes/1/replies",
        "tg/v1/gateway/status",
        "tg/v1/devices/scanner-1/status",
        "tg/v1/store/prices",
        "tg/v1/bridge/down/prices",
        "tg/v1/technician/requests/device.test",
        "$SYS/broker/log/N",
    ):
        code = await till.publish(topic, b"forged")
        assert code == (NOT_AUTHORISED if version == V5 else 0), topic
    assert await till.publish("tg/v1/lanes/1/facts", b"own") == 0
    await store.arrived("tg/v1/lanes/1/facts", b"own")
    assert not [message for message in store.heard if message.payload == b"forged"]


@BOTH
async def test_attack_wildcard_and_shared_subscriptions(store: Site, version: int) -> None:
    """A till listens to everything, to another lane, to the broker's own topics, also as a shared subscription: it
    hears what its lane may hear and nothing else.
    """
    till = await let_in(store, "1", version)
    spies = ["#", "+/+/#", "tg/v1/lanes/+/#", "tg/v1/lanes/2/#", "tg/v1/bridge/#", "$SYS/#", "tg/v1/technician/#"]
    for topic_filter in [*spies, *(f"$share/x/{spy}" for spy in spies if not spy.startswith("$"))]:
        await till.subscribe(topic_filter)
    for topic in ("tg/v1/lanes/2/scans", "tg/v1/lanes/2/replies", "tg/v1/bridge/status", "tg/v1/technician/replies"):
        await store.watch.publish(topic, b"secret")
    await store.watch.publish("tg/v1/lanes/1/scans", b"for lane 1")
    while not any(payload == b"for lane 1" for _, payload in till.received):
        await till.read()
    await till.ping()
    heard = {topic for topic, _ in till.received}
    assert not any(payload == b"secret" for _, payload in till.received)
    assert heard <= {topic for topic in heard if topic.startswith(("tg/v1/lanes/1/", "tg/v1/gateway/", "tg/v1/store/"))}


@BOTH
async def test_attack_client_id_takeover(store: Site, version: int) -> None:
    """A till takes the client id of edge, of the bridge or of another lane's till, to throw it off the bus or inherit
    its messages: over TLS its client id is its lane, whatever it says.
    """
    victim = await let_in(store, "2")
    edge_id = next(line.split(" as ")[1].split(" ")[0] for line in store.broker.log.splitlines() if " as edge-" in line)
    for stolen in (edge_id, f"{edge_id}.2", "watch", "2", "till-2", "bridge"):
        async with attacker(store.port, store.lane("1"), version) as thief:
            assert await thief.connect(client_id=stolen) == 0
    await victim.ping()
    assert store.watch.counters.connections == 1
    assert "already connected" not in "".join(
        line for line in store.broker.log.splitlines(keepends=True) if edge_id in line or "Client 2 " in line
    )
    await serves(store, "3")


@BOTH
async def test_attack_forged_will(store: Site, version: int) -> None:
    """A till leaves a last will that speaks as another lane's presence, as the gateway, or lies about its own lane in
    rubbish: the broker publishes no foreign one, and edge takes the rubbish away and heeds it not.
    """
    for will in (
        Will("tg/v1/lanes/2/presence", b'{"online": false}'),
        Will("tg/v1/gateway/status", b'{"state": "stopped"}'),
        Will("tg/v1/lanes/2/requests/drawer.open", request("w1")),
    ):
        async with attacker(store.port, store.lane("1"), version) as till:
            await till.connect(will=will)
            till.drop()
        assert not [message for message in store.heard if message.payload == will.payload]
    async with attacker(store.port, store.lane("1"), version) as till:
        assert await till.connect(will=Will("tg/v1/lanes/1/presence", b'{"online": "perhaps"')) == 0
        till.drop()
    await store.arrived("tg/v1/lanes/1/presence", b"perhaps")
    await until(lambda: store.on("tg/v1/lanes/1/presence")[-1:] == [b""])
    assert store.watch.connected
    rows = await until(lambda: store.rows("SELECT code, reason FROM quarantine WHERE lane = '1'"))
    assert rows[0][0] == "bad_message"


async def test_attack_response_topic_of_another_lane(store: Site) -> None:
    """A till asks with a Response Topic in another lane, so that the gateway speaks to that lane for it: the answer
    goes to the asker's own replies.
    """
    till = await let_in(store, "1")
    await till.subscribe("tg/v1/lanes/1/replies")
    for topic in ("tg/v1/lanes/2/replies", "tg/v1/gateway/status", "tg/v1/lanes/1/../2/replies", "tg/v1/store/prices"):
        properties = b"\x08" + text(topic) + b"\x09" + text(b"c")
        number = f"r-{topic}"
        await till.publish("tg/v1/lanes/1/requests/help", request(number, operation="help"), properties=properties)
        answer = await store.arrived("tg/v1/lanes/1/replies", number.encode())
        assert orjson.loads(answer)["ok"] is True
    assert not [m for m in store.heard if b"r-tg" in m.payload and not m.topic.startswith("tg/v1/lanes/1/")]


# -- what one lane can do to the others --------------------------------------------------------------------------------


@BOTH
async def test_attack_payload_of_10_megabytes(store: Site, version: int) -> None:
    """A till sends a message of ten megabytes: its connection is closed before the message is in memory, and nobody
    else notices. One that fits the broker and not the lane's limit is answered `too_large`.
    """
    till = await let_in(store, "1", version)
    await till.subscribe("tg/v1/lanes/1/replies")
    await till.publish("tg/v1/lanes/1/facts", b"x" * 100_000)
    await store.arrived("tg/v1/lanes/1/replies", b"too_large")
    giant = till.publication("tg/v1/lanes/1/facts", b"x" * 10_000_000)

    async def send() -> None:
        for start in range(0, len(giant), 65_536):
            await till.send(giant[start : start + 65_536])

    sending = asyncio.create_task(send())
    how = await till.gone()
    await asyncio.wait([sending])
    sending.exception()
    if version == V5 and "DISCONNECT" in how:
        assert how.startswith(f"DISCONNECT {TOO_LARGE:x}")
    await until(lambda: "oversize packet" in store.broker.log)
    assert memory_mb(store.broker.pid) < 50
    await serves(store)


async def test_attack_malformed_packets(store: Site) -> None:
    """A till with a good certificate sends what is no MQTT: its connection ends, the broker and the others live on."""
    files = store.lane("1")
    connect = packet(1, 0, text("MQTT") + bytes([5, 2, 0, 60]) + b"\0" + text("x"))
    for rubbish in (
        b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\xff\xff",
        packet(1, 0, text("MQTT") + bytes([99, 2, 0, 60]) + b"\0" + text("x")),
        packet(1, 0, text("MQTT") + bytes([5, 0xFF, 0, 60]) + b"\0" + text("x")),
        packet(PUBLISH, 2, text("tg/v1/lanes/1/facts") + b"\0\1\0x"),  # before CONNECT
        connect + connect,
        connect + packet(PUBLISH, 6, text("tg/v1/lanes/1/facts") + b"\0\1\0x"),  # QoS 3
        connect + packet(PUBLISH, 2, text("tg/v1/lanes/+/facts") + b"\0\1\0x"),
        connect + packet(PUBLISH, 2, text(b"tg/v1/lanes/1/\xff\xfe") + b"\0\1\0x"),
        connect + packet(PUBLISH, 2, text("tg/v1/lanes/1/facts") + b"\0\1\xff\xff\xff\xff\xff"),
        connect + packet(8, 2, b"\0\1\0" + text("tg/v1/lanes/1/#") + b"\xff"),
        connect + packet(15, 0, b""),
        connect + packet(0, 0, b""),
        bytes(range(256)) * 64,
    ):
        async with attacker(store.port, files) as till:
            await till.send(rubbish)
            await till.gone()
    await serves(store)


@BOTH
async def test_attack_retained_poison(store: Site, version: int) -> None:
    """A till has its fact or request retained, to be carried out again in each of the gateway's lives, also while the
    gateway is away: it is refused and taken away, by whichever life of edge sees it first.
    """
    till = await let_in(store, "1", version)
    await till.subscribe("tg/v1/lanes/1/replies")
    await till.publish("tg/v1/lanes/1/requests/help", request("poison-1"), retain=True)
    assert b"bad_message" in await store.arrived("tg/v1/lanes/1/replies", b"poison-1")
    await until(lambda: store.on("tg/v1/lanes/1/requests/help")[-1] == b"")
    assert store.edge is not None
    store.edge.send_signal(signal.SIGKILL)
    await store.edge.wait()
    for number in range(50):
        await till.publish(f"tg/v1/lanes/1/requests/x{number}", request("poison-2"), retain=True)
    await till.publish("tg/v1/lanes/1/facts", b"poison-3", retain=True)
    async with running_edge(store):
        await until(lambda: len([m for m in store.heard if m.payload == b"" and "/requests/x" in m.topic]) >= 50)
        await until(lambda: store.on("tg/v1/lanes/1/facts")[-1] == b"")
        await serves(store)
        async with attacker(store.config.broker_socket) as late:
            assert await late.connect(client_id="late") == 0
            for topic_filter in ("tg/v1/lanes/+/facts", "tg/v1/lanes/+/requests/+"):
                assert await late.subscribe(topic_filter) < 128
            await late.ping()
            assert late.received == []


@pytest.mark.parametrize("qos", [0, 1])
async def test_attack_slow_reader(store: Site, qos: int) -> None:
    """A till subscribes to all it may, reads nothing, and makes the gateway, and tries to make itself, send to it: what
    it does not take is bounded in the broker's memory and then dropped; the others are served.
    """
    till = await let_in(store, "1")
    await till.subscribe("tg/v1/lanes/1/#", qos)
    before = memory_mb(store.broker.pid)
    ask = till.publication("tg/v1/lanes/1/requests/help", request("h"), qos=0)
    echo = till.publication("tg/v1/lanes/1/facts", b"x" * 30_000, qos=0)

    async def pour() -> None:
        for _ in range(300):
            await till.send((ask + echo) * 10)

    pouring = asyncio.create_task(pour())  # 90 MB to itself, 3000 answers of some 30 KB
    while not pouring.done():
        await serves(store)
    pouring.exception()
    assert memory_mb(store.broker.pid) - before < 100
    till.drop()


async def test_attack_flood(tmp_path: Path) -> None:
    """A till sends as much as the network takes: it fills a queue of its own, is told `too_fast`, then dropped, then
    cut, each time for longer; the other lanes are answered all the while, and a person is told.
    """
    hears = ("tg/v1/gateway/status", "tg/v1/lanes/+/replies")
    async with site(tmp_path / "store", "[limits]\nmessages_per_s = 20\nburst = 100\n", hears=hears) as store:
        other = await let_in(store, "2")
        await other.subscribe("tg/v1/lanes/2/replies")
        wild = store.lane("1")
        flooder = await asyncio.create_subprocess_exec(
            *(*DIE_WITH_PARENT, sys.executable, "-m", "tests.access.flooder"),
            *(str(store.port), "1", str(wild.certificate), str(wild.key)),
        )
        asked = 0
        while b"lane_floods" not in store.on("tg/v1/gateway/status")[-1] or asked < 5:
            asked += 1
            assert (await asks(other, "2", f"during-{asked}"))["ok"] is True
            await asyncio.sleep(0.1)  # as fast as this lane may
        flooder.kill()
        await flooder.wait()
        assert "Client 1 already connected, closing old connection" in store.broker.log
        assert any(b"too_fast" in said for said in store.on("tg/v1/lanes/1/replies"))
        assert other.received
        lines = store.rows("SELECT count(*) FROM facts WHERE type = 'tillgate.audit.recorded.v1'")
        assert lines[0][0] >= 1


def memory_mb(pid: int | None) -> float:
    """What the process keeps in memory (proc(5): statm, in pages)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1_000_000
