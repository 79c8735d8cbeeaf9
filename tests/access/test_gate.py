"""The gate with a real broker: who is cut, for how long, and what of it is seen by the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.access import gate as module
from edge.access.audit import Audit
from edge.access.gate import Gate
from edge.bus.broker import LOOPBACK, BrokerSettings, TlsListener
from edge.bus.client import Client
from edge.bus.errors import BusError
from edge.services.warnings import Warnings
from edge.supervisor import keep_running
from tests.access.attacker import V5, V311, Attacker, Will, anything_goes, attacker
from tests.access.maker import Authority
from tests.edge.bus_rig import QUICK, Broker, connected, until

LANES = frozenset({"1", "2"})


@dataclass
class Rig:
    """A broker, and a gate that does its work."""

    gate: Gate
    authority: Authority
    broker: Broker
    port: int
    recorded: list[Any]
    warnings: Warnings
    lost: list[str] = field(default_factory=list)

    async def till(self, lane: str, version: int = V5, will: Will | None = None) -> Attacker:
        files = self.authority.issue(lane, file=f"{lane}-{len(self.authority.serials)}")
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port, ssl=anything_goes(files))
        one = Attacker(reader, writer, version)
        assert await one.connect(will=will) == 0
        return one


@pytest.fixture
async def rig(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Rig]:
    authority, port = Authority(tmp_path / "a"), free_port()
    listener = TlsListener(authority.serve(), LOOPBACK, port)
    broker = Broker(BrokerSettings(tmp_path / "b", tmp_path / "b" / "s", tls=listener)).start()
    recorded: list[Any] = []

    def report(data: Any, *, also: Any = ()) -> asyncio.Future[Any]:
        recorded.append(data)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    warnings = Warnings()
    edge = Client(broker.own, client_id="edge", clean_start=True, backoff=QUICK)
    gate = Gate(broker.own, LANES, edge.publish_soon, Audit(report), warnings)
    try:
        async with connected(edge):
            running = asyncio.create_task(keep_running("gate", gate.run, expected=(BusError,)))
            yield Rig(gate, authority, broker, port, recorded, warnings)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    finally:
        broker.stop()


@pytest.mark.parametrize("version", [V5, V311])
async def test_attack_revoked_till_that_is_connected(rig: Rig, version: int) -> None:
    """A till is revoked while its connection stands, which the broker lets stand: the gate ends that connection at
    once, its last will says that it is gone, and no other lane is touched.
    """
    said: list[bytes] = []
    till, other = await rig.till("1", version, Will("tg/v1/lanes/1/presence", b"gone")), await rig.till("2")
    async with connected(Client(rig.broker.own, client_id="sees", clean_start=True)) as sees:
        await sees.subscribe("tg/v1/lanes/1/presence", lambda message: said.append(message.payload), qos=0)
        await rig.gate.cut("1", "revoked")
        await till.gone()
        await until(lambda: said == [b"gone"])
    await other.ping()


async def test_a_shut_lane_is_not_listened_to_and_cut_when_it_speaks(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    till, other = await rig.till("1"), await rig.till("2")
    rig.gate.shut(["1"])
    assert (rig.gate.lets("1"), rig.gate.lets("2"), rig.gate.lets("3")) == (False, True, False)
    await till.gone()
    assert {entry.action for entry in rig.recorded} == {"lane.refused"}
    for _ in range(100):
        await other.ping()
    assert [one.getMessage() for one in caplog.records if "is cut off" in one.getMessage()] == [
        "lane 1 is cut off: this lane is shut"
    ], "cut once for each time that it speaks"


async def test_pauses_grow_and_a_lane_is_let_in_again_after_them(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOOD_S", 0.05)
    monkeypatch.setattr(module, "PAUSE_S", 0.5)
    pauses = []
    for _ in range(3):
        till = await rig.till("1")

        def drop() -> bool:
            rig.gate.dropped("1")
            return rig.gate.paused_s("1") > 0

        await until(drop)
        pauses.append(rig.gate.paused_s("1"))
        await till.gone()
        again = await rig.till("1")
        rig.gate.dropped("1")
        await again.gone()
        await until(lambda: not rig.gate.paused_s("1"))
    assert pauses[0] < pauses[1] < pauses[2]
    assert [warning.code for warning in rig.warnings.shown()] == ["lane_floods"]
    assert sum(entry.action == "lane.cut" for entry in rig.recorded) == 3
    await (await rig.till("1")).ping()


async def test_what_is_retained_is_swept(rig: Rig) -> None:
    till = await rig.till("1")
    for number in range(300):
        await till.publish(f"tg/v1/lanes/1/requests/n{number}", b"poison", retain=True)
    rig.gate.sweep()

    async def left() -> int:
        async with attacker(rig.broker.settings.socket) as looks:
            assert await looks.connect(client_id="looks") == 0
            assert await looks.subscribe("tg/v1/lanes/+/requests/+", 0) < 128
            await looks.ping()
            return len(looks.received)

    async with asyncio.timeout(80):
        while await left():
            await asyncio.sleep(0.1)
