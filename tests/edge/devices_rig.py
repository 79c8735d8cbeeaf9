"""A counter to test on: virtual devices at the far end of ptys and sockets, and edge's device side on a real store.

`Counter.start` may be called again after `stop`: the same devices, the same store.db, a new life of the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.twins import TWINS
from drivers.virtual.wire import PtyWire, TcpWire
from edge.bus.errors import BusFull
from edge.bus.messages.replies import ProblemError
from edge.bus.messages.requests import OPERATIONS
from edge.config import Device, Scanning, VariableMeasure
from edge.daemon import SCHEMAS
from edge.devices.calibrating import Calibrating
from edge.devices.cash_drawers import CashDrawers
from edge.devices.claiming import Claiming
from edge.devices.displays import Displays
from edge.devices.lane_cards import LaneCards
from edge.devices.leases import Leases
from edge.devices.places import Places
from edge.devices.printing import Printing
from edge.devices.registry import PAUSES, Registry
from edge.devices.scanning import Scanning as Scans
from edge.devices.watching import Watching
from edge.devices.weighing import Weighing
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.facts import Reporter
from edge.services.requests import Asked
from edge.supervisor import Pauses

BOUND_S = 20.0
AWAY_S = 0.2
"""A till that is gone loses its leases after this, here."""
MEASURES = (
    VariableMeasure(prefix="28", item_digits=5, value="price", value_digits=5, decimals=2),
    VariableMeasure(prefix="29", item_digits=4, value="weight", value_digits=5, decimals=3, verifier=True),
)


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until `condition()` is true; fails after a generous bound."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BOUND_S
    while not condition():
        assert loop.time() < end, f"{what} did not come within {BOUND_S} s"
        await asyncio.sleep(0.01)


class Counter:
    """One checkout: lane-1 (and lane-2 that shares scale and printer), scanner-1, scale-1, printer-1, drawer-1."""

    def __init__(
        self,
        directory: Path,
        *,
        model: str = "TM-T88V",
        open_when: str | None = "high",
        serial_printer: bool = False,
        send_s: float = 30.0,
        drawer: Mapping[str, Any] | None = None,
        printer: Mapping[str, Any] | None = None,
        scale_kind: str = "toledo-8217",
        pauses: Pauses = PAUSES,
        failover_after_s: float | None = None,
    ) -> None:
        """`drawer` are options of drawer-1, `printer` are options of the virtual printer.

        With `failover_after_s` there is printer-2, at home at lane-2, which then stands in for printer-1.
        """
        self.directory = directory
        self.model = model
        self.open_when = open_when
        self.send_s = send_s
        self.drawer_options = dict(drawer or {})
        self.pauses = pauses
        wire = PtyWire(directory / "ttyprinter") if serial_printer else TcpWire(0)
        self.scanner = VirtualScanner("scanner-1", PtyWire(directory / "ttyscanner"))
        scale = TWINS[scale_kind].twin("scale-1", PtyWire(directory / "ttyscale"))
        assert isinstance(scale, VirtualScale)
        self.scale_kind, self.scale = scale_kind, scale
        self.printer = VirtualPrinter(
            "printer-1", wire, directory / "paper", **{"drawer_open": open_when or "high"} | dict(printer or {})
        )
        self.failover_after_s = failover_after_s
        self.second = VirtualPrinter("printer-2", TcpWire(0), directory / "paper-2", **dict(printer or {}))
        self.twins = [self.scanner, self.scale, self.printer, *([self.second] if failover_after_s is not None else [])]
        self.published: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.quarantined: list[tuple[str, str | None, str, str, bytes]] = []
        self.bus_full = False
        self.free_bytes = 10**12
        self._ids = itertools.count(1)
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for twin in self.twins:
            await twin.open()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        for twin in self.twins:
            await twin.close()

    def devices(self) -> list[Device]:
        wire = self.printer.wire
        link = (
            {"kind": "tcp", "host": "127.0.0.1", "port": wire.port}
            if isinstance(wire, TcpWire)
            else {"kind": "serial", "path": wire.address}
        )
        drawer = {"printer": "printer-1"} | ({"open_when": self.open_when} if self.open_when else {})
        drawer |= self.drawer_options
        return [
            Device(
                id="scanner-1",
                protocol="serial-scanner",
                lanes=("lane-1", "lane-2"),
                transport={"kind": "serial", "path": self.scanner.wire.address},
            ),
            Device(
                id="scale-1",
                protocol=self.scale_kind,
                lanes=("lane-1", "lane-2"),
                transport={"kind": "serial", "path": self.scale.wire.address},
            ),
            Device(
                id="printer-1",
                protocol="escpos-printer",
                lanes=("lane-1", "lane-2"),
                transport=link,
                options={"model": self.model},
                **({"failover": "printer-2", "failover_after_s": self.failover_after_s} if self._has_second else {}),
            ),
            *([self._second()] if self._has_second else []),
            Device(id="drawer-1", protocol="printer-drawer", lanes=("lane-1",), options=drawer),
        ]

    @property
    def _has_second(self) -> bool:
        return self.failover_after_s is not None

    def _second(self) -> Device:
        assert isinstance(self.second.wire, TcpWire)
        return Device(
            id="printer-2",
            protocol="escpos-printer",
            lanes=("lane-2", "lane-1"),
            transport={"kind": "tcp", "host": "127.0.0.1", "port": self.second.wire.port},
            options={"model": self.model},
        )

    async def start(self, clock: Clock | None = None) -> None:
        """Begin a life of the gateway on the counter's store.db."""
        self.clock = clock or Clock()
        self.store = await Store.open(
            self.directory / "store.db", "s1", clock=self.clock, schemas=SCHEMAS, free_bytes=lambda: self.free_bytes
        )
        report = Reporter(self.store, "s1")
        self.leases, self.places = Leases(self.store, self.clock, report, away_s=AWAY_S), Places(self.store)
        await self.leases.open()
        await self.places.open()
        kept = (self.leases, self.places)
        self.registry = Registry(self.devices(), self.publish, report, self.quarantine, *kept, pauses=self.pauses)
        self.claiming = Claiming(self.registry, self.leases)
        self.cards = LaneCards("s1", ("lane-1", "lane-2"), self.registry, self.store, report)
        scanning = Scanning(variable_measure=MEASURES)
        self.scans = Scans(scanning, "EUR", self.registry, self.publish, self.quarantine, self.cards)
        self.weighing = Weighing(self.registry)
        self.watching = Watching(self.registry, self.publish, self.weighing.turn)
        self.printing = Printing(self.registry, self.store, report, self.clock, send_s=self.send_s)
        self.displays = Displays(self.registry, "EUR")
        self.drawers = CashDrawers(self.registry, self.store, report, self.clock)
        await self.cards.open()
        self.calibrating = Calibrating(self.drawers, self.clock)
        await self.printing.open()
        await self.drawers.open()
        self._running = [
            asyncio.create_task(part.run(), name=type(part).__name__)
            for part in (self.registry, self.watching, self.printing, self.drawers, self.displays)
        ]

    async def stop(self) -> None:
        """End this life at once, whatever is in hand."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.store.close()

    async def ready(self) -> None:
        """Wait until every device that says so is ready."""
        telling = [device for device in self.registry.all() if device.category not in ("drawer", "display")]
        await until(
            lambda: all(device.state == "ready" for device in telling),
            f"ready devices: {[(device.id, device.state) for device in self.registry.all()]}",
        )

    @contextlib.contextmanager
    def disk_busy(self) -> Iterator[None]:
        """Within the block nothing comes to rest on the disk (at most 10 s: then SQLite gives up)."""
        other = sqlite3.connect(self.directory / "store.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        finally:
            other.close()

    # -- what edge is given ----------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes, **how: Any) -> None:
        if self.bus_full:
            raise BusFull
        self.published.append((topic, orjson.loads(payload) if payload else None, how))

    def quarantine(self, origin: str, lane: str | None, code: str, reason: str, payload: bytes) -> None:
        self.quarantined.append((origin, lane, code, reason, payload))

    # -- what a till does ------------------------------------------------------------------------------------------

    def ask(
        self,
        operation: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        lane: str = "lane-1",
        request: str | None = None,
        deadline_s: float = 15.0,
        recover: bool = False,
    ) -> Awaitable[dict[str, Any]]:
        """Ask as the router does: checked parameters, a deadline."""
        served: dict[str, Any] = {}
        own = (self.claiming, self.scans, self.weighing, self.watching, self.printing, self.drawers, self.displays)
        for part in own:
            served |= part.operations()
        if recover:
            served = dict(self.printing.recoveries()) | dict(self.drawers.recoveries())
        checked = OPERATIONS[operation].parameters.model_validate(dict(parameters or {}))
        asked = Asked(lane, request or f"r-{next(self._ids)}", asyncio.get_running_loop().time() + deadline_s)

        async def bounded() -> dict[str, Any]:
            async with asyncio.timeout_at(asked.deadline_s):
                answer: dict[str, Any] = await served[operation](asked, checked)
                return answer

        return bounded()

    async def problem(self, operation: str, parameters: Mapping[str, Any] | None = None, **how: Any) -> ProblemError:
        """Ask for something that must be refused; returns the problem."""
        try:
            result = await self.ask(operation, parameters, **how)
        except ProblemError as problem:
            return problem
        raise AssertionError(f"{operation} gave {result}, where a problem was due")

    # -- what there is to count ------------------------------------------------------------------------------------

    def receipts(self, folder: str = "paper") -> list[str]:
        """The texts of all receipts that came out of the printer; `folder` "paper-2": of printer-2."""
        record = self.directory / folder / "paper.jsonl"
        if not record.exists():
            return []
        return [orjson.loads(line)["text"] for line in record.read_bytes().splitlines()]

    def on_paper(self, text: str, folder: str = "paper") -> int:
        """How many receipts hold this line."""
        return sum(text in receipt.splitlines() for receipt in self.receipts(folder))

    async def facts(self, type_: str) -> list[dict[str, Any]]:
        """The data of every fact of this type that is on disk."""
        rows = await self.store.fetch_all(
            "SELECT plain(class, seq, body) FROM facts WHERE type = ? ORDER BY row", (type_,)
        )
        return [orjson.loads(row[0])["data"] for row in rows]

    async def until_facts(self, type_: str, count: int) -> list[dict[str, Any]]:
        """Wait for `count` facts of this type, and see that there are no more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + BOUND_S
        while len(facts := await self.facts(type_)) < count:
            assert loop.time() < end, f"{count} facts {type_}, found {facts}"
            await asyncio.sleep(0.02)
        assert len(facts) == count, facts
        return facts

    def statuses(self, device: str) -> list[dict[str, Any]]:
        """Every status that was published of a device."""
        return [payload for topic, payload, _ in self.published if topic == f"tg/v1/devices/{device}/status"]

    def state(self, device: str) -> dict[str, Any]:
        """The last status of a device."""
        return self.statuses(device)[-1]


def receipt(text: str, lines: int = 0) -> dict[str, Any]:
    """Parameters of `print`: a small receipt that carries `text` on a line of its own."""
    body = [{"kind": "row", "left": f"Item {number}", "right": "1.00"} for number in range(lines)]
    return {"document": [{"kind": "text", "text": text}, *body, {"kind": "feed"}, {"kind": "cut"}]}
