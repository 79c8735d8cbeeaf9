"""Every fault of printing, before, during and after a job, on a printer that proves and on one that does not.

    python -m tests.faults.print_matrix            print the table
    python -m tests.faults.print_matrix --write    put it into docs/printing.md

One real broker and one real edge process serve a lane, a till and a virtual printer per cell; the cells of a fault run
side by side. A cell is one job, one fault and its repair; then a second job, which must come out, then the till asks
for the first one again. Edge is killed with SIGKILL; a reboot is the same with another boot id at the next start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gateway import EDGE, Gateway, gateway, lanes_toml
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.wire import TcpWire
from tests.flows.plain_till import PlainTill

DOCUMENT = Path(__file__).parents[2] / "docs" / "printing.md"
BEGIN, END = "<!-- matrix: python -m tests.faults.print_matrix --write -->\n", "<!-- end of matrix -->\n"

MOMENTS = ("before", "during", "after")
EDGE_FAULTS = ("edge killed", "gateway rebooted")
DEVICE_FAULTS = ("paper out", "cover open", "power cycle", "cable pulled")
PATIENCE_S = 60.0
LINES = 30

_NEXT_BOOT = """
import sys
from edge.journal import clock
clock.read_boot_id = lambda: "the-next-morning"
from edge import daemon
sys.exit(daemon.main())
"""
EDGE_NEXT_BOOT = (sys.executable, "-c", _NEXT_BOOT)

_HANDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # what a person does, wrong, in the middle of a job, and right again
    "paper out": ("paper", {"to": "out"}, {"to": "out", "after_lines": 5}, {"to": "ok"}),
    "cover open": ("cover", {"to": "open"}, {"to": "open", "after_lines": 5}, {"to": "closed"}),
    "power cycle": ("power", {"to": "off"}, {"to": "off", "after_bytes": 400}, {"to": "on"}),
    "cable pulled": ("cable", {"to": "pull"}, {"to": "pull", "after_bytes": 400}, {"to": "plug"}),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment on one kind of printer."""

    fault: str
    moment: str
    proves: bool

    @property
    def id(self) -> str:
        return f"{self.fault} {self.moment} {'proves' if self.proves else 'proves nothing'}".replace(" ", "-")


CELLS = [
    Cell(fault, moment, proves)
    for fault in (*DEVICE_FAULTS, *EDGE_FAULTS)
    for moment in MOMENTS
    for proves in (True, False)
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell's job.

    `heard`: the answer to the till, a state or a problem's code; `meanwhile`, `at_end`: the ledger's state after that
    answer, and when all is well again; `again`: the answer when the till asks for the same job once more; `begun` and
    `ended`: how often its first and its last line are on paper; `next`: receipts of the job that followed;
    `duplicates`: receipts marked so (one is asked for where nobody can know).
    """

    heard: str
    meanwhile: str
    at_end: str
    proven: bool
    again: str
    begun: int
    ended: int
    next: int
    duplicates: int

    @property
    def paper(self) -> str:
        return {(0, 0): "nothing", (1, 0): "a part", (1, 1): "once"}.get((self.begun, self.ended), "wrong")


class Desk:
    """The till and the printer of one cell."""

    def __init__(self, cell: Cell, number: int, folder: Path) -> None:
        self.cell = cell
        self.lane = str(number)
        self.job = f"job-{number}"
        self.paper = folder / f"paper-{number}"
        self.twin = VirtualPrinter(f"printer-{number}", TcpWire(0), self.paper, proof=cell.proves)
        self.till: PlainTill
        self.heard = self.meanwhile = ""
        self._requests = 0

    def toml(self) -> str:
        assert isinstance(self.twin.wire, TcpWire)
        model = "TM-T88V" if self.cell.proves else "TM-T88III"
        return f"""[[devices]]
id = "{self.twin.name}"
protocol = "escpos-printer"
lanes = ["{self.lane}"]
transport = {{ kind = "tcp", host = "127.0.0.1", port = {self.twin.wire.port} }}
options = {{ model = "{model}" }}
"""

    # -- what the till does ----------------------------------------------------------------------------------------

    async def ask(self, operation: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
        """Ask; returns the state or the problem's code, and the result. A request that got no time is made again."""
        while True:
            self._requests += 1
            try:
                reply = await self.till.request(operation, f"r-{self.lane}-{self._requests}", **parameters)
            except TimeoutError:
                continue
            if reply["ok"]:
                return reply["result"]["state"], reply["result"]
            if reply["problem"]["code"] != "timed_out":
                return reply["problem"]["code"], {}

    async def print(self) -> str:
        body = [{"kind": "row", "left": f"Item {number}", "right": "1.00"} for number in range(LINES)]
        first, last = ({"kind": "text", "text": f"{word} {self.job}"} for word in ("Begin", "End"))
        return (await self.ask("print", job=self.job, document=[first, *body, last, {"kind": "cut"}]))[0]

    async def state(self) -> dict[str, Any]:
        return (await self.ask("print.state", job=self.job))[1]

    # -- the fault -------------------------------------------------------------------------------------------------

    async def hand(self, fault: str, which: int) -> None:
        """Do the fault (1), arm it for the middle of the job (2), or mend it (3)."""
        await self.twin.do(_HANDS[fault][0], _HANDS[fault][which])

    async def device_fault(self) -> None:
        """One fault of the printer, from beginning to repair."""
        fault, moment = self.cell.fault, self.cell.moment
        if moment == "before":
            await self.hand(fault, 1)
        elif moment == "during":
            await self.hand(fault, 2)
        self.heard = await self.print()
        self.meanwhile = (await self.state())["state"]
        if moment == "after":
            await self.hand(fault, 1)
        await self.hand(fault, 3)

    async def before_kill(self) -> asyncio.Task[str] | None:
        """Bring the job to where edge is killed; in its middle it is held by an empty roll."""
        if self.cell.moment == "before":
            await self.hand("paper out", 1)
            self.heard = await self.print()
            self.meanwhile = (await self.state())["state"]
        elif self.cell.moment == "after":
            self.heard = await self.print()
        else:
            await self.hand("paper out", 2)
            asking = asyncio.create_task(self.print(), name=f"asking {self.job}")
            await until(lambda: "Item 3" in self.twin.state()["strip"] and self.twin.state()["paper"] == "end")
            return asking
        return None

    async def after_kill(self, asking: asyncio.Task[str] | None, hosts: int) -> None:
        """Edge is back."""
        await until(lambda: self.twin.hosts > hosts)
        if asking is not None:
            self.heard = await asking
            if self.heard == "not_ready":  # it had been answered just before the kill
                self.heard = await self.print()
        if not self.meanwhile:
            self.meanwhile = (await self.state())["state"]
        await self.hand("paper out", 3)

    # -- what became of it -----------------------------------------------------------------------------------------

    async def outcome(self) -> Outcome:
        """Wait until all is well, let another job follow, and count."""
        follows = [{"kind": "text", "text": "Next"}, {"kind": "cut"}]
        state = ""
        while state not in ("printed", "sent"):
            state, _ = await self.ask("print", job=f"next-{self.job}", document=follows)
        await until(lambda: self.lines().count("Next") > 0)
        before: dict[str, Any] = {}
        while (found := await self.state()) != before or not found["ended"]:
            before = found
            await asyncio.sleep(0.2)  # a late proof may still be on its way to the disk
        again = await self.print()
        lines = self.lines()
        begun, ended = lines.count(f"Begin {self.job}"), lines.count(f"End {self.job}")
        if found["state"] == "unknown":
            await self.ask("print.reprint", job=self.job, reason="nobody knows")
            await until(lambda: self.lines().count(f"End {self.job}") == ended + 1)
        return Outcome(
            self.heard,
            self.meanwhile,
            found["state"],
            found["proven"],
            again,
            begun,
            ended,
            lines.count("Next"),
            self.lines().count("DUPLICATE"),
        )

    def lines(self) -> list[str]:
        """Every line on paper: the receipts that were cut off, and the strip that still hangs in the printer."""
        record = self.paper / "paper.jsonl"
        cut = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        texts = [json.loads(line)["text"] for line in cut] + [self.twin.state()["strip"]]
        return [line.strip() for text in texts for line in text.splitlines()]


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def outcomes(folder: Path) -> dict[Cell, Outcome]:
    """Run every cell."""
    desks = [Desk(cell, number, folder) for number, cell in enumerate(CELLS, 1)]
    for desk in desks:
        await desk.twin.open()
    found: dict[Cell, Outcome] = {}
    try:
        tables = lanes_toml(len(desks)) + "".join(desk.toml() for desk in desks)
        async with gateway(tables, folder=folder) as at:
            for desk in desks:
                desk.till = PlainTill(at.address, desk.lane)
                await desk.till.client.__aenter__()
            try:
                for desk in desks:
                    await desk.till.client.wait_connected()
                await until(lambda: all(desk.twin.hosts for desk in desks))
                await _device_faults([desk for desk in desks if desk.cell.fault in DEVICE_FAULTS], found)
                for fault, command in zip(EDGE_FAULTS, (EDGE, EDGE_NEXT_BOOT), strict=True):
                    await _edge_fault(at, [desk for desk in desks if desk.cell.fault == fault], command, found)
            finally:
                for desk in desks:
                    await desk.till.client.__aexit__(None, None, None)
    finally:
        for desk in desks:
            await desk.twin.close()
    return found


async def _device_faults(desks: list[Desk], found: dict[Cell, Outcome]) -> None:
    async def one(desk: Desk) -> None:
        await desk.device_fault()
        found[desk.cell] = await desk.outcome()

    async with asyncio.TaskGroup() as group:
        for desk in desks:
            group.create_task(one(desk), name=desk.cell.id)


async def _edge_fault(at: Gateway, desks: list[Desk], command: tuple[str, ...], found: dict[Cell, Outcome]) -> None:
    asking = await asyncio.gather(*(desk.before_kill() for desk in desks))
    hosts = [desk.twin.hosts for desk in desks]
    edge = at.processes["edge"]
    edge.kill()
    await edge.wait()
    with at.log.open("ab") as out:
        at.processes["edge"] = await asyncio.create_subprocess_exec(
            *command, "--config", str(at.config.file), stdout=out, stderr=out
        )

    async def one(desk: Desk, task: asyncio.Task[str] | None, before: int) -> None:
        await desk.after_kill(task, before)
        found[desk.cell] = await desk.outcome()

    async with asyncio.TaskGroup() as group:
        for desk, task, before in zip(desks, asking, hosts, strict=True):
            group.create_task(one(desk, task, before), name=desk.cell.id)


# -- the table ---------------------------------------------------------------------------------------------------------


def table(found: dict[Cell, Outcome]) -> str:
    """The outcomes in Markdown, as they stand in docs/printing.md."""
    head = ["fault", "when", "proof", "the till hears", "meanwhile", "at the end", "on paper"]
    rows = [head, ["---"] * len(head), *(_row(cell, found[cell]) for cell in CELLS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(cell: Cell, outcome: Outcome) -> Iterable[str]:
    words = (outcome.heard, outcome.meanwhile, outcome.at_end)
    return (cell.fault, cell.moment, "yes" if cell.proves else "no", *(f"`{word}`" for word in words), outcome.paper)


def written() -> str:
    """The table that stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.print_matrix", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/printing.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tillgate-matrix-") as folder:
        made = table(asyncio.run(outcomes(Path(folder))))
    if chosen.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(text.replace(BEGIN + written() + END, BEGIN + made + END), encoding="utf-8")
    else:
        sys.stdout.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
