"""A full disk under a running store: what goes, what is refused, what a till hears, per class and per operation.

    python -m tests.faults.disk_full            print the table
    python -m tests.faults.disk_full --write    put it into docs/journal.md

The real broker, edge and bridge, started by `tillgate run`; a till with its own ledger on lane 1 and one that speaks
plain JSON on lane 2; a virtual printer with a drawer and a scanner. The disk is the shim's. *Reserve*: the file system
has only what the journal never uses left. *Nothing*: no byte can be written any more. Then there is room again.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.sealed import OF_JOURNAL
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.wire import TcpWire
from edge.bus import envelope, topics
from edge.bus.address import Address
from edge.bus.client import Client
from edge.bus.messages.facts import FactClass, MemberIdentified
from edge.bus.messages.links import BridgeStatus
from tests.faults.shim import Calls
from tests.faults.store_rig import STORE, RunningStore, running_store, sale, scanner, until
from tests.flows.plain_till import PlainTill

DOCUMENT = Path(__file__).parents[2] / "docs" / "journal.md"
BEGIN, END = "<!-- disk full: python -m tests.faults.disk_full --write -->\n", "<!-- end of disk full -->\n"

RESERVE_BYTES = 16 * 1024 * 1024
ENGAGEMENTS = 300
STAGES = ("reserve", "nothing", "room again")

TABLES = """
[journal]
reserve_mb = 16
[limits]
messages_per_s = 1000
burst = 1000
[[devices]]
id = "printer-1"
protocol = "escpos-printer"
lanes = ["1", "2"]
transport = {{ kind = "tcp", host = "127.0.0.1", port = {port} }}
options = {{ model = "TM-T88V" }}
[[devices]]
id = "drawer-1"
protocol = "printer-drawer"
lanes = ["1", "2"]
options = {{ printer = "printer-1", open_when = "high" }}
"""


@dataclass
class Story:
    """What was found: per stage what each thing heard; `gone` in the order in which the classes went."""

    heard: dict[str, dict[str, str]] = field(default_factory=lambda: {stage: {} for stage in STAGES})
    gone: list[str] = field(default_factory=list)
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    """Ids of tenders and sales of lane 2 that were accepted at any time."""
    in_journal: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    kept_by_till: int = 0
    retry_after_ms: list[int | None] = field(default_factory=list)
    tombstones: list[tuple[str, int, int]] = field(default_factory=list)
    lives: set[int] = field(default_factory=set)
    database: Path = Path()


class Desk:
    """Lane 2: asks for everything once, in plain JSON."""

    def __init__(self, store: RunningStore, till: PlainTill, story: Story) -> None:
        self.store, self.till, self.story = store, till, story
        self._sequence = 0
        self._accepted: dict[str, Any] | None = None

    async def fact(self, type_: str, data: dict[str, Any]) -> str:
        source = envelope.lane_source(STORE, "2")
        event = envelope.build(type_, source, data, sequence=self._sequence + 1)
        word = await self.send(event)
        if word == "accepted":
            self._sequence += 1
            self._accepted = event
        return word

    async def send(self, event: dict[str, Any]) -> str:
        reply = await self.till.fact(event)
        if reply["ok"]:
            if "member" not in event["type"]:
                self.story.accepted.append(event["id"])
            return "accepted"
        self.story.retry_after_ms.append(reply["problem"].get("retry_after_ms"))
        return str(reply["problem"]["code"])

    async def ask(self, operation: str, **parameters: Any) -> str:
        reply = await self.till.request(operation, secrets.token_hex(8), **parameters)
        if reply["ok"]:
            return "done"
        self.story.retry_after_ms.append(reply["problem"].get("retry_after_ms"))
        return str(reply["problem"]["code"])

    async def everything(self) -> dict[str, str]:
        """What each thing hears now."""
        day = {"business_day_date": "2026-05-04", "operator_id": "7", "receipt_number": "R1"}
        tender = {**day, "kind": "cash", "currency": "EUR", "amount_minor": 125}
        found = {
            "tender (critical)": await self.fact("tillgate.tender.taken.v1", tender),
            "sale (transaction)": await self.fact("tillgate.sale.completed.v1", sale(1).model_dump(mode="json")),
            "member (engagement)": await self.fact(
                "tillgate.member.identified.v1", {"receipt_number": "R1", "member": "M1"}
            ),
        }
        if self._accepted is not None:
            found["a fact that was accepted before, sent again"] = await self.send(self._accepted)
        bad = await self.till.fact(b"{")
        found["a message that cannot be read"] = bad["problem"]["code"]
        found["`print`"] = await self.ask("print", document=[{"kind": "text", "text": "1.25"}])
        found["`drawer.open`"] = await self.ask("drawer.open", operator_id="7", reason="change")
        found["`device.claim`"] = await self.ask("device.claim", device="printer-1", for_ms=60_000)
        await self.ask("device.release", device="printer-1")
        found["`price.lookup`, `help`, `scan.recent`"] = await self.ask("help")
        return found


async def story(folder: Path) -> Story:
    """Run it."""
    told = Story()
    printer = VirtualPrinter("printer-1", TcpWire(0), folder / "paper")
    (folder / "paper").mkdir()
    await printer.open()
    try:
        wire = printer.wire
        assert isinstance(wire, TcpWire)
        async with scanner() as line:
            tables = TABLES.format(port=wire.port) + line.toml
            async with running_store(folder, tables) as store, store.till() as till:
                plain = PlainTill(Address(host="127.0.0.1", port=store.bus_port), "2")
                bus = Client(Address(socket=store.config.broker_socket), client_id="story", clean_start=True)
                async with plain.client, bus:
                    await _tell(told, store, till, Desk(store, plain, told), line, bus)
    finally:
        await printer.close()
    return told


async def _tell(told: Story, store: RunningStore, till: Any, desk: Desk, line: Any, bus: Client) -> None:
    await store.state("serving")
    await until(
        lambda: all(one.state == "ready" for one in store.devices.values()) and len(store.devices) == 3, "ready"
    )
    told.database, shim = store.config.store_db, store.shim
    for _ in range(ENGAGEMENTS):
        await till.fact(MemberIdentified(receipt_number="R" * 60, member="M" * 60))
    await till.all_answered()
    for _ in range(6):  # operation facts: each print leaves one
        assert await desk.ask("print", document=[{"kind": "text", "text": "x"}]) == "done"
    tender = {"business_day_date": "2026-05-04", "operator_id": "7", "receipt_number": "R2", "kind": "cash"}
    small = {**tender, "currency": "EUR", "amount_minor": 1}
    assert await desk.fact("tillgate.tender.taken.v1", small) == "accepted"
    told.lives.add(store.pid("edge"))

    # Only the reserve is left: sales push out telemetry, then engagement, until nothing may go any more.
    shim.fill(RESERVE_BYTES + 200_000)
    number = 0
    while store.status.state != "storage_full":
        number += 1
        await till.fact(sale(number, lines=30))
        await asyncio.sleep(0.01)
    told.gone = [data["of_class"] for data in _tombstones(store)]
    while await desk.fact("tillgate.tender.taken.v1", small) == "accepted":
        pass  # free pages in the file are room too
    told.heard["reserve"] = await desk.everything() | {"a scan": await _scan(till, line)}
    told.kept_by_till = (await till.ledger.count())["pending"]
    status = await store.state("storage_full")
    told.states["reserve"] = status.state, status.please

    # What HQ has of the operation facts may go, and nothing else would have helped.
    base = store.rows("SELECT count(*) FROM bases WHERE class = 'operation'")[0][0]
    assert base == 0, "no operation fact goes before HQ has it"
    heads = store.rows("SELECT max(seq) FROM facts WHERE class = 'operation'")[0][0]
    confirmed = BridgeStatus(link="online", since="", epoch=store.status.epoch, confirmed={FactClass.OPERATION: heads})
    await bus.publish(topics.BRIDGE_STATUS, confirmed.model_dump_json().encode())
    while store.rows("SELECT count(*) FROM bases WHERE class = 'operation'") == [(0,)]:
        await desk.fact("tillgate.tender.taken.v1", small)
    told.gone.append("operation, once HQ has it")

    # Not a byte can be written.
    shim.io_error(calls=Calls.WRITE, error=errno.ENOSPC)
    told.heard["nothing"] = await desk.everything() | {"a scan": await _scan(till, line)}
    status = await store.state("storage_full")
    told.states["nothing"] = status.state, status.please

    # Room again.
    shim.io_error(False)
    shim.free()
    await asyncio.wait_for(till.all_answered(), 90)
    told.heard["room again"] = await desk.everything() | {"a scan": await _scan(till, line)}
    status = await store.state("serving")
    told.states["room again"] = status.state, status.please
    told.lives.add(store.pid("edge"))
    told.in_journal = [id_ for (id_,) in store.rows("SELECT id FROM facts")]
    told.sequences = [n for (n,) in store.rows(
        "SELECT lane_seq FROM facts WHERE lane = '1' AND class = 'transaction' ORDER BY seq"
    )]  # fmt: skip
    told.tombstones = store.rows("SELECT class, first, last FROM tombstones ORDER BY class, first")


def _tombstones(store: RunningStore) -> list[dict[str, Any]]:
    rows = store.rows(f"SELECT {OF_JOURNAL} FROM facts WHERE type = 'tillgate.journal.tombstone.v1' ORDER BY row")
    return [json.loads(body)["data"] for (body,) in rows]


async def _scan(till: Any, line: Any) -> str:
    code = f"{int.from_bytes(os.urandom(4)):010d}"
    line.scan(code)
    got = await asyncio.wait_for(till.next_scan(), 20)
    return "delivered" if got.text == code else f"other: {got.text}"


# -- the table ---------------------------------------------------------------------------------------------------------


def table(told: Story) -> str:
    """The story in Markdown, as it stands in docs/journal.md."""
    rows = [["", *STAGES], ["---"] * 4]
    for what in told.heard["reserve"]:
        rows.append([what, *(f"`{told.heard[stage][what]}`" for stage in STAGES)])
    rows.append(["state of the gateway", *(f"`{told.states[stage][0]}`" for stage in STAGES)])
    rows.append(["`please`", *(told.states[stage][1] or "–" for stage in STAGES)])
    order = list(dict.fromkeys(told.gone))
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{text}\nWhat went, in this order: {'; '.join(order)}. Never: critical, transaction.\n"


def written() -> str:
    """The table that stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.disk_full", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/journal.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tillgate-full-") as folder:
        made = table(asyncio.run(story(Path(folder))))
    if chosen.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(text.replace(BEGIN + written() + END, BEGIN + made + END), encoding="utf-8")
    else:
        sys.stdout.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
