"""A till's request to the first byte of its receipt at the printer, and to the printer's proof, with 2 and 20 lanes.

Every lane has a printer of its own (a virtual one on a TCP port, which proves what it prints), so that no receipt waits
for another. Until the first byte leaves, the job is made, written to disk, its printer asked whether it can print, and
``sending`` written to disk. Beside it, in turns: a bare subscriber that writes the ready bytes straight to a printer,
with no memory, no question and no proof.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gateway import Gateway, gateway, lanes_toml
from bench.report import Report, finish, median, parser, percentile
from drivers.printers.document import from_json
from drivers.printers.escpos import encode
from drivers.printers.profiles import PROFILES
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.wire import TcpWire
from edge.bus import topics
from edge.bus.client import Client, Message

MODEL = "TM-T88V"
PRINTS_PER_S_AND_LANE = 1.0
WITHIN_S = 10.0
JOB_BEGINS = b"\x1b@"  # ESC @, with which every job begins and nothing else does
DOCUMENT: list[dict[str, Any]] = [
    {"kind": "text", "text": "MY SHOP", "align": "center", "bold": True, "width": 2, "height": 2},
    *({"kind": "row", "left": f"Grüner Tee Nr. {number}", "right": "1,29"} for number in range(20)),
    {"kind": "row", "left": "SUMME", "right": "EUR 25,80", "bold": True},
    {"kind": "cut"},
]


class Printer(VirtualPrinter):
    """Notes when a job's first byte arrives."""

    first_byte: asyncio.Future[float] | None = None

    def received(self, data: bytes) -> None:
        """Take bytes from the host."""
        if JOB_BEGINS in data and self.first_byte is not None and not self.first_byte.done():
            self.first_byte.set_result(time.perf_counter())
        super().received(data)


@dataclass(slots=True)
class Lane:
    """One lane: its till's client, its printer, and the printer of the bare way with the link to it."""

    name: str
    till: Client
    printer: Printer
    bare: Printer
    bare_link: asyncio.StreamWriter
    receipt: bytes
    replied: asyncio.Future[tuple[float, bytes]] | None = None
    count: int = 0
    through_ms: list[float] = field(default_factory=list)
    proven_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)

    def heard(self, message: Message) -> None:
        """A reply to this lane's till."""
        at = time.perf_counter()
        message.ack()
        if self.replied is not None and not self.replied.done():
            self.replied.set_result((at, message.payload))

    def carry(self, message: Message) -> None:
        """The bare way: whatever comes goes to the printer."""
        message.ack()
        self.bare_link.write(message.payload)

    async def print(self) -> None:
        """One receipt through the gateway."""
        self.count += 1
        loop = asyncio.get_running_loop()
        self.printer.first_byte, self.replied = loop.create_future(), loop.create_future()
        request = {"id": f"p{self.count}", "deadline_ms": 9000, "parameters": {"document": DOCUMENT}}
        payload = json.dumps(request).encode()
        started = time.perf_counter()
        self.till.publish_soon(topics.lane_request(self.name, "print"), payload)
        async with asyncio.timeout(WITHIN_S):
            first = await self.printer.first_byte
            at, reply = await self.replied
        if json.loads(reply).get("result", {}).get("state") != "printed":
            raise RuntimeError(f"lane {self.name} heard {reply!r}")
        self.through_ms.append((first - started) * 1000)
        self.proven_ms.append((at - started) * 1000)

    async def print_bare(self) -> None:
        """The same receipt, ready-made, straight to a printer."""
        self.bare.first_byte = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self.till.publish_soon(topics.lane_presence(self.name), self.receipt)
        async with asyncio.timeout(WITHIN_S):
            self.bare_ms.append((await self.bare.first_byte - started) * 1000)

    async def shop(self, prints: int) -> None:
        """`prints` receipts, each both ways in random order, at a busy till's pace."""
        await asyncio.sleep(random.uniform(0, 1 / PRINTS_PER_S_AND_LANE))
        for _ in range(prints):
            for way in random.sample([self.print, self.print_bare], 2):
                await way()
                await asyncio.sleep(random.uniform(0.25, 0.75) / PRINTS_PER_S_AND_LANE)


async def measure(count: int, prints: int) -> dict[str, float | int | str]:
    """All figures with `count` lanes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillgate-bench-")))
        printers = [await _plugged_in(stack, folder / f"paper-{number}") for number in range(count)]
        tables = lanes_toml(count)
        for number, printer in enumerate(printers, start=1):
            tables += (
                f'[[devices]]\nid = "printer-{number}"\nprotocol = "escpos-printer"\nlanes = ["{number}"]\n'
                f'transport = {{ kind = "tcp", host = "127.0.0.1", port = {_port(printer)} }}\n'
                f'options = {{ model = "{MODEL}" }}\n'
            )
        at = await stack.enter_async_context(gateway(tables))
        lanes = [await _opened(stack, at, str(n), one, folder) for n, one in enumerate(printers, start=1)]
        for lane in lanes:  # the first one loads what draws letters
            await lane.print()
            lane.through_ms.clear()
            lane.proven_ms.clear()
        await asyncio.gather(*(lane.shop(prints) for lane in lanes))
    through, proven, bare = (
        [value for lane in lanes for value in getattr(lane, name)] for name in ("through_ms", "proven_ms", "bare_ms")
    )
    return {
        f"lanes_{count}_prints": len(through),
        f"lanes_{count}_first_byte_p50_ms": median(through),
        f"lanes_{count}_first_byte_p99_ms": percentile(through, 0.99),
        f"lanes_{count}_proven_p50_ms": median(proven),
        f"lanes_{count}_proven_p99_ms": percentile(proven, 0.99),
        f"lanes_{count}_bare_p50_ms": median(bare),
        f"lanes_{count}_bare_p99_ms": percentile(bare, 0.99),
    }


async def _plugged_in(stack: AsyncExitStack, folder: Path) -> Printer:
    printer = Printer(folder.name, TcpWire(0), folder)
    await printer.open()
    stack.push_async_callback(printer.close)
    return printer


def _port(printer: Printer) -> int:
    assert isinstance(printer.wire, TcpWire)
    return printer.wire.port


async def _opened(stack: AsyncExitStack, at: Gateway, name: str, printer: Printer, folder: Path) -> Lane:
    """One lane with its till connected, and the bare way beside it."""
    till = Client(at.address, client_id=f"bench-{name}", username=name, clean_start=True)
    bare = await _plugged_in(stack, folder / f"bare-{name}")
    _, link = await asyncio.open_connection("127.0.0.1", _port(bare))
    stack.callback(link.close)
    receipt = encode(from_json(DOCUMENT), PROFILES[MODEL])
    lane = Lane(name, till, printer, bare, link, JOB_BEGINS + receipt.data)
    till.on_message(topics.lane_replies(name), lane.heard)
    carrier = Client(at.address, client_id=f"bench-bare-{name}", username=name, clean_start=True)
    carrier.on_message(topics.lane_presence(name), lane.carry)
    for client in (till, carrier):
        await stack.enter_async_context(client)
        await client.wait_connected()
    return lane


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--prints", type=int, default=12, help="receipts per lane with 20 lanes; five times as many with 2 (default 12)"
    )
    chosen = options.parse_args(arguments)
    report = Report("print")
    found = [asyncio.run(measure(2, chosen.prints * 5)), asyncio.run(measure(20, chosen.prints))]
    for figures in found:
        report.figures.update({name: value for name, value in figures.items() if "bare" not in name})
    report.peers["a bare subscriber writing ready bytes to a printer"] = {
        name: value for figures in found for name, value in figures.items() if "bare" in name
    }
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
