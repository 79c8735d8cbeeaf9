"""The rendered mosquitto configuration, held against a real mosquitto."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bus import broker as module
from edge.bus.address import Address
from edge.bus.broker import BrokerFailed, BrokerProcess, BrokerSettings, prepare
from edge.bus.client import Client, Message, PublishRejected
from edge.supervisor import keep_running
from tests.edge.bus_rig import QUICK, Broker, connected, settings_in, until


def till(broker: Broker, lane: str | None, client_id: str = "", **more: object) -> Client:
    name = client_id or f"till-{lane}"
    return Client(broker.tills, client_id=name, username=lane, clean_start=True, backoff=QUICK, **more)  # type: ignore[arg-type]


def own(broker: Broker, client_id: str) -> Client:
    return Client(broker.own, client_id=client_id, clean_start=True, backoff=QUICK)


WRITES = {
    "tg/v1/lanes/1/facts": True,
    "tg/v1/lanes/1/requests/print": True,
    "tg/v1/lanes/1/presence": True,
    "tg/v1/lanes/1/scans": False,
    "tg/v1/lanes/1/replies": False,
    "tg/v1/lanes/1/weights": False,
    "tg/v1/lanes/1/requests": False,
    "tg/v1/lanes/1/requests/a/b": False,
    "tg/v1/lanes/2/facts": False,
    "tg/v1/lanes/2/requests/print": False,
    "tg/v1/lanes/2/presence": False,
    "tg/v1/devices/p1/status": False,
    "tg/v1/gateway/status": False,
    "tg/v1/store/prices": False,
    "tg/v1/bridge/status": False,
    "tg/v1/bridge/down/prices": False,
    "$SYS/broker/uptime": False,
    "anything": False,
}


@pytest.mark.parametrize("protocol", [5, 4])
async def test_a_till_writes_its_own_part_and_nothing_else(broker: Broker, protocol: int) -> None:
    arrived: set[str] = set()
    watcher = own(broker, "watcher")
    watcher.on_message("#", lambda message: arrived.add(message.topic), qos=0)
    async with connected(watcher), connected(till(broker, "1", protocol=protocol)) as one:
        rejected = set()
        for topic in WRITES:
            try:
                await one.publish(topic, b"x")
            except PublishRejected:
                rejected.add(topic)
        await watcher.publish("tg/v1/bridge/end", b"")
        await until(lambda: "tg/v1/bridge/end" in arrived)
    allowed = {topic for topic, may in WRITES.items() if may}
    assert arrived - {"tg/v1/bridge/end"} == allowed
    if protocol == 5:
        assert rejected == set(WRITES) - allowed


async def test_a_till_reads_its_own_part_and_what_is_for_all(broker: Broker) -> None:
    got: list[Message] = []
    reader = till(broker, "1")
    for topic_filter in ("#", "$SYS/#"):
        reader.on_message(topic_filter, got.append, qos=0)
    readable = {
        "tg/v1/lanes/1/scans",
        "tg/v1/lanes/1/replies",
        "tg/v1/lanes/1/presence",
        "tg/v1/devices/p1/status",
        "tg/v1/gateway/status",
        "tg/v1/store/prices",
    }
    hidden = {"tg/v1/lanes/2/scans", "tg/v1/lanes/2/presence", "tg/v1/bridge/status", "tg/v1/s1/up/critical", "other"}
    async with connected(own(broker, "edge")) as edge, connected(reader):
        for topic in sorted(hidden) + sorted(readable):
            await edge.publish(topic, b"x")
        await edge.publish("tg/v1/store/end", b"")
        await until(lambda: any(message.topic == "tg/v1/store/end" for message in got))
    assert {message.topic for message in got} == readable | {"tg/v1/store/end"}


@pytest.mark.parametrize("name", ["+", "#", "1/facts", "+/facts", "../1", None])
async def test_a_strange_name_opens_no_door(broker: Broker, name: str | None) -> None:
    got: list[Message] = []
    async with connected(own(broker, "edge")) as edge:
        await edge.subscribe("tg/v1/lanes/#", got.append, qos=0)
        seen: list[Message] = []
        async with connected(till(broker, name, client_id="strange")) as stranger:
            await stranger.subscribe("tg/v1/lanes/#", seen.append, qos=0)
            for lane in ("1", str(name)):
                with pytest.raises((PublishRejected, ValueError)):
                    await stranger.publish(f"tg/v1/lanes/{lane}/scans", b"forged")
            with pytest.raises(PublishRejected):
                await stranger.publish("tg/v1/lanes/1/facts", b"forged")
            await edge.publish("tg/v1/lanes/1/replies", b"secret")
            await stranger.subscribe("tg/v1/store/#", seen.append, qos=0)
            await edge.publish("tg/v1/store/end", b"")
            await until(lambda: [message for message in got if message.payload == b"secret"])
    assert {message.payload for message in got} == {b"secret"}
    assert not [message for message in seen if message.payload == b"secret"]


async def test_rubbish_and_huge_messages_disturb_nobody_else(broker: Broker) -> None:
    got: list[bytes] = []
    edge = own(broker, "edge")
    edge.on_message("tg/v1/lanes/2/facts", lambda message: got.append(message.payload), qos=0)
    async with connected(edge), connected(till(broker, "2")) as good:
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 50, b"\xff" * 5, b"\x10\xff\xff\xff\x7f", b""):
            _, writer = await asyncio.open_connection(broker.tills.host, broker.tills.port)
            writer.write(rubbish)
            writer.close()
            await good.publish("tg/v1/lanes/2/facts", rubbish)
        command = f"mosquitto_pub -h 127.0.0.1 -p {broker.tills.port} -u 1 -q 1 -V mqttv311 -t tg/v1/lanes/1/facts -s"
        huge = subprocess.Popen(command.split(), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        await asyncio.to_thread(huge.communicate, b"x" * 10_000_000)
        assert huge.returncode != 0  # the sender is told: its connection was closed
        await until(lambda: "oversize packet" in broker.log)
        await good.publish("tg/v1/lanes/2/facts", b"still selling")
        await until(lambda: b"still selling" in got)
        assert good.counters.connections == edge.counters.connections == 1


def test_a_socket_that_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter state folder"):
        BrokerSettings(tmp_path, tmp_path / ("x" * 100) / "b.sock")
    with pytest.raises(ValueError, match="space"):
        BrokerSettings(tmp_path, tmp_path / "a b" / "b.sock")


def test_a_missing_mosquitto_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
    with pytest.raises(BrokerFailed, match="apt-get install mosquitto"):
        prepare(BrokerSettings(tmp_path, tmp_path / "b.sock"))


async def test_a_taken_port_is_said_with_the_brokers_own_words(broker: Broker, tmp_path: Path) -> None:
    second = BrokerProcess(settings_in(tmp_path / "second", broker.tills.port))
    with pytest.raises(BrokerFailed, match="Address already in use"):
        await second.start()
    assert second.pid is None


async def test_a_broker_that_dies_is_started_again_and_ends_with_its_owner(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = settings_in(tmp_path / "b", free_port())
    process = BrokerProcess(settings)
    keeper = asyncio.create_task(keep_running("broker", process.run, expected=(BrokerFailed,)))
    client = Client(settings.address, client_id="edge", backoff=QUICK)
    try:
        async with connected(client):
            first = process.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: client.counters.connections == 2)
            last = process.pid
    finally:
        keeper.cancel()
        await asyncio.wait([keeper])
    assert last not in (None, first)
    assert not Path(f"/proc/{last}").exists()


async def test_a_broker_does_not_outlive_an_owner_that_was_killed(tmp_path: Path, free_port: Callable[[], int]) -> None:
    program = f"""
        import asyncio
        from pathlib import Path
        from edge.bus.broker import BrokerProcess, BrokerSettings

        async def main():
            folder = Path({str(tmp_path)!r})
            broker = BrokerProcess(BrokerSettings(folder, folder / "b.sock", plain_port={free_port()}))
            await broker.start()
            print(broker.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        assert Path(f"/proc/{pid}").exists()
        # mosquitto 2.0 says "running" just before it begins to heed SIGTERM; once it answers, it does.
        async with connected(Client(Address(socket=tmp_path / "b.sock"), client_id="asks", clean_start=True)):
            pass
    finally:
        owner.kill()
        owner.communicate()
    await until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())
