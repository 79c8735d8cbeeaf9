"""Scans, paper and drawer through a real broker and a real edge process, which is killed while it works."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import EDGE, Gateway, gateway, lanes_toml
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import PtyWire, TcpWire
from edge.bus.messages.facts import FactClass
from edge.journal.reader import Reader
from tests.flows.plain_till import PlainTill


@dataclass
class Desk:
    """A gateway with one lane, its scanner, printer and drawer, and the till that uses them."""

    at: Gateway
    till: PlainTill
    scanner: VirtualScanner
    printer: VirtualPrinter
    paper: Path

    async def kill_edge(self) -> None:
        edge = self.at.processes["edge"]
        edge.kill()
        await edge.wait()

    async def start_edge(self) -> None:
        with self.at.log.open("ab") as out:
            self.at.processes["edge"] = await asyncio.create_subprocess_exec(
                *EDGE, "--config", str(self.at.config.file), stdout=out, stderr=out
            )

    def receipts(self) -> list[str]:
        record = self.paper / "paper.jsonl"
        return [json.loads(line)["text"] for line in record.read_text().splitlines()] if record.exists() else []

    async def transactions(self, type_: str) -> list[dict[str, Any]]:
        reader = await Reader.open(self.at.config.store_db)
        try:
            bodies = [row.body for row in await reader.tail(FactClass.TRANSACTION, 0)]
        finally:
            await reader.close()
        events = [json.loads(body) for body in bodies]
        return [event["data"] for event in events if event["type"] == type_]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    scanner = VirtualScanner("scanner-1", PtyWire(tmp_path / "ttyscanner"))
    printer = VirtualPrinter("printer-1", TcpWire(0), tmp_path / "paper")
    await scanner.open()
    await printer.open()
    assert isinstance(printer.wire, TcpWire)
    tables = f"""{lanes_toml(1)}
[[devices]]
id = "scanner-1"
protocol = "serial-scanner"
lanes = ["1"]
transport = {{ kind = "serial", path = "{scanner.wire.address}" }}
[[devices]]
id = "printer-1"
protocol = "escpos-printer"
lanes = ["1"]
transport = {{ kind = "tcp", host = "127.0.0.1", port = {printer.wire.port} }}
options = {{ model = "TM-T88V" }}
[[devices]]
id = "drawer-1"
protocol = "printer-drawer"
lanes = ["1"]
options = {{ printer = "printer-1", open_when = "high" }}
"""
    async with gateway(tables, folder=tmp_path) as at:
        till = PlainTill(at.address, "1")
        async with till.client:
            await till.client.wait_connected()
            yield Desk(at, till, scanner, printer, tmp_path / "paper")
    await scanner.close()
    await printer.close()


def receipt(text: str, lines: int = 0) -> list[dict[str, Any]]:
    body = [{"kind": "row", "left": f"Item {number}", "right": "1.00"} for number in range(lines)]
    return [{"kind": "text", "text": text}, *body, {"kind": "cut"}]


async def insist(till: PlainTill, operation: str, id_: str, **parameters: Any) -> Any:
    """Ask, and ask again under the same id while there is no answer, as a till does."""
    for _ in range(5):
        with contextlib.suppress(TimeoutError):
            return await till.request(operation, id_, **parameters)
    raise AssertionError(f"no answer to {operation} {id_}")


async def next_scan(till: PlainTill) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            topic, found = await till.heard.get()
            if topic.endswith("/scans"):
                return found


async def test_scans_prints_and_opens_through_the_broker(desk: Desk) -> None:
    desk.scanner.scan("4006381333931", "E0")
    scan = await next_scan(desk.till)
    assert (scan["gtin"], scan["symbology"], scan["counter"]) == ("04006381333931", "]E0", 1)
    printed = await desk.till.request("print", "p-1", document=receipt("Sale 1"))
    assert printed["result"] == {"job": "p-1", "state": "printed", "ended": True, "proven": True, "device": "printer-1"}
    again = await desk.till.request("print", "p-1", document=receipt("Sale 1"))
    assert again == printed
    assert len(desk.receipts()) == 1
    opened = await desk.till.request("drawer.open", "d-1", operator_id="ann", receipt_number="1")
    assert opened["result"]["opened"] is True
    repeated = await desk.till.request("drawer.open", "d-1", operator_id="ann", receipt_number="1")
    assert repeated == opened
    assert desk.printer.kicks == 1


async def test_edge_killed_while_a_job_waits_for_paper(desk: Desk) -> None:
    await desk.printer.do("paper", {"to": "out"})
    answer = await desk.till.request("print", "p-1", document=receipt("Sale 1"))
    assert answer["problem"]["code"] == "not_ready"
    await desk.kill_edge()
    await desk.printer.do("paper", {"to": "ok"})
    await desk.start_edge()
    state: dict[str, Any] = {}
    for number in range(400):
        state = await insist(desk.till, "print.state", f"s-{number}", job="p-1")
        if state["result"]["state"] == "printed":
            break
        await asyncio.sleep(0.05)
    assert state["result"]["state"] == "printed"
    assert len(desk.receipts()) == 1


async def test_edge_killed_in_the_middle_of_a_receipt(desk: Desk) -> None:
    await desk.printer.do("paper", {"to": "ok", "after_lines": 5})  # it stops in the middle
    asking = asyncio.ensure_future(insist(desk.till, "print", "p-1", document=receipt("Sale 1", lines=30)))
    while "Item 3" not in desk.printer.state()["strip"]:
        await asyncio.sleep(0.01)
    await desk.kill_edge()
    await desk.printer.do("paper", {"to": "ok"})
    await desk.start_edge()
    # The broker still has the request and gives it to the next life, which knows that it cannot know.
    assert (await asking)["problem"]["code"] == "unknown_outcome"
    answer = await insist(desk.till, "print", "p-2", document=receipt("Sale 2"))
    assert answer["result"]["state"] == "printed"
    assert len([text for text in desk.receipts() if "Sale 1" in text]) <= 1
    assert len([text for text in desk.receipts() if "Sale 2" in text]) == 1


async def test_nothing_twice_though_edge_is_killed_again_and_again(desk: Desk) -> None:
    dice = random.Random()
    answers: dict[str, Any] = {}

    async def sell() -> None:
        for number in range(24):
            job, opening = f"p-{number}", f"d-{number}"
            answers[job] = await insist(desk.till, "print", job, document=receipt(f"Sale {number}.", lines=10))
            answers[opening] = await insist(desk.till, "drawer.open", opening, operator_id="a", receipt_number=job)
            await desk.printer.do("drawer", {"to": "closed"})

    selling = asyncio.ensure_future(sell())
    for _ in range(4):
        before = len(answers)
        while len(answers) < before + 3 and not selling.done():
            await asyncio.sleep(0.02)
        await asyncio.sleep(dice.uniform(0.0, 0.2))
        await desk.kill_edge()
        await desk.start_edge()
    await selling
    for number in range(24):
        on_paper = sum(f"Sale {number}." in text.splitlines() for text in desk.receipts())
        answer = answers[f"p-{number}"]
        known = answer["result"]["state"] == "printed" if answer["ok"] else False
        assert on_paper == 1 if known else on_paper <= 1, (number, answer, on_paper)
        assert answer["ok"] or answer["problem"]["code"] in ("unknown_outcome", "device_lost", "timed_out"), answer
    openings = await desk.transactions("tillgate.drawer.opened.v1")
    commanded = [fact["request"] for fact in openings if fact["request"] is not None]
    assert len(commanded) == len(set(commanded)), openings
    seen = sum(fact["outcome"] == "seen" for fact in openings)
    unknown = sum(fact["outcome"] == "unknown" for fact in openings)
    assert seen <= desk.printer.kicks <= seen + unknown, (openings, desk.printer.kicks)
