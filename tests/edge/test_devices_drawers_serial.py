"""A drawer without a printer at the counter: the same facts, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.virtual.serial_drawer import VirtualSerialDrawer
from drivers.virtual.wire import PtyWire
from edge.bus.messages.replies import Code
from edge.config import Device
from tests.edge.devices_rig import Counter, until

OPENED = "tillgate.drawer.opened.v1"
CLOSED = "tillgate.drawer.closed.v1"
SALE = {"device": "drawer-2", "operator_id": "ann", "receipt_number": "17"}


class Boxed(Counter):
    """drawer-2 is on a box of its own."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory)
        self.options = {"quiet_ms": 1000} | options
        self.box = VirtualSerialDrawer(
            "drawer-2", PtyWire(directory / "ttydrawer"), status=options.get("status") == "nul-while-open"
        )
        self.twins.append(self.box)

    def devices(self) -> list[Device]:
        line = {"kind": "serial", "path": self.box.wire.address}
        box = Device(id="drawer-2", protocol="serial-drawer", lanes=("lane-1",), transport=line, options=self.options)
        return [*super().devices(), box]

    async def there(self) -> None:
        await self.ready()
        await until(lambda: self.state("drawer-2")["state"] == "unknown", "the box")


async def test_seen_open_and_closed(tmp_path: Path) -> None:
    async with Boxed(tmp_path, status="nul-while-open") as counter:
        await counter.there()
        await counter.printer.do("cable", {"to": "pull"})  # no printer is needed
        answer = await counter.ask("drawer.open", SALE)
        assert answer == {"opened": True, "already_open": False, "device": "drawer-2"}
        await counter.box.do("drawer", {"to": "closed"})
        await counter.until_facts(CLOSED, 1)
        assert counter.state("drawer-2")["detail"] == {"open": False}
        await counter.box.do("drawer", {"to": "open"})
        facts = await counter.until_facts(OPENED, 2)
        assert [fact["outcome"] for fact in facts] == ["seen", "seen"]
        assert facts[1]["request"] is None


async def test_a_box_that_tells_nothing(tmp_path: Path) -> None:
    async with Boxed(tmp_path) as counter:
        await counter.there()
        assert (await counter.ask("drawer.open", SALE))["opened"] is None
        assert counter.box.kicks == 1
        assert [fact["outcome"] for fact in await counter.facts(OPENED)] == ["unknown"]


async def test_a_box_that_is_gone(tmp_path: Path) -> None:
    async with Boxed(tmp_path) as counter:
        await counter.there()
        await counter.box.do("cable", {"to": "pull"})
        await until(lambda: counter.state("drawer-2")["state"] == "offline", "the loss")
        problem = await counter.problem("drawer.open", SALE)
        assert (problem.code, "drawer-2" in problem.detail) == (Code.DEVICE_LOST, True)
        assert await counter.facts(OPENED) == []
