"""What sealing the journal costs: one body by itself, and a sale's commit and a full batch with and without it.

Both kinds of store write to the same disk in turn, in one process, so that whatever else the machine does meets both.
One body by itself is counted in processor time: it waits for nothing. The unsealed one is the same store with bodies
left in plain. `accept` says what a till notices.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bench.report import Goal, Report, finish, median, parser, percentile
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.entries import NewFact, Prepared, prepare
from edge.journal.sealing import Bodies
from edge.journal.store import Store
from edge.seal import Keyring

BATCH = 500
STORE = "bench"
EPOCH = "0198c5b2-7c1e-7000-8000-000000000000"


class Unsealed(Bodies):
    """Leaves everything in plain."""

    def sealed(self, epoch: str, fact_class: str, seq: int, body: bytes) -> bytes:
        return body


def a_sale(number: int) -> NewFact:
    """Three lines, about 700 bytes."""
    line = {"item": "4006381333931", "text": "Textmarker gelb", "quantity": "1", "unit_price_minor": 129,
            "amount_minor": 129}  # fmt: skip
    data = {"business_day_date": "2026-05-04", "operator_id": "anna", "receipt_number": f"{number:06}",
            "currency": "EUR", "lines": [{"line": n, **line} for n in (1, 2, 3)], "total_minor": 387}  # fmt: skip
    source = envelope.lane_source(STORE, "1")
    event = envelope.build("tillgate.sale.completed.v1", source, data, sequence=number)
    return NewFact(event["id"], event["type"], FactClass.TRANSACTION, source, event["time"], "1", number, event)


def one_body(rounds: int = 20_000) -> dict[str, float | int]:
    """Microseconds to seal and to open one body."""
    prepared: Prepared = prepare(a_sale(1).event)
    body = prepared.before + prepared.after
    bodies = Bodies.by(Keyring.new())
    sealed = bodies.sealed(EPOCH, "transaction", 1, body)
    began = time.process_time()
    for _ in range(rounds):
        bodies.sealed(EPOCH, "transaction", 1, body)
    sealing = time.process_time() - began
    began = time.process_time()
    for _ in range(rounds):
        bodies.plain(EPOCH, "transaction", 1, sealed)
    opening = time.process_time() - began
    return {
        "body_bytes": len(body),
        "more_bytes_a_row": len(sealed) - len(body),
        "seal_us": sealing / rounds * 1e6,
        "open_us": opening / rounds * 1e6,
    }


class Side:
    """One of the two stores, and what was measured of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.number = 0
        self.single_ms: list[float] = []
        self.batch_ms: list[float] = []

    async def single(self) -> None:
        """One sale, one commit."""
        self.number += 1
        sale = a_sale(self.number)
        began = time.perf_counter()
        await self.store.record(sale)
        self.single_ms.append((time.perf_counter() - began) * 1000)

    async def batch(self) -> None:
        """So many sales at once: a replay after an outage."""
        sales = [a_sale(self.number + n) for n in range(1, BATCH + 1)]
        self.number += BATCH
        began = time.perf_counter()
        await asyncio.gather(*(self.store.append(sale) for sale in sales))
        self.batch_ms.append((time.perf_counter() - began) * 1000)

    def figures(self) -> dict[str, float | int | str]:
        """As they are shown."""
        return {
            "one_sale_p50_ms": median(self.single_ms),
            "one_sale_p99_ms": percentile(self.single_ms, 0.99),
            "batch_facts_per_s": BATCH / median(self.batch_ms) * 1000,
        }


async def measure(folder: Path, rounds: int) -> tuple[Side, Side]:
    """The sealed and the unsealed one, in turn."""
    sides = []
    for name in ("sealed", "unsealed"):
        (folder / name).mkdir()
        store = await Store.open(folder / name / "store.db", STORE, clock=Clock(), reserve_bytes=0)
        sides.append(Side(store))
    sides[1].store._writer.bodies = Unsealed.by(Keyring.new())
    for warm in (True, False):
        for _ in range(3 if warm else rounds):
            for side in sides:
                await side.batch()
                for _ in range(10):
                    await side.single()
        if warm:
            for side in sides:
                side.single_ms.clear()
                side.batch_ms.clear()
    for side in sides:
        await side.store.close()
    return sides[0], sides[1]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=40, help="batches of each kind (default 40)")
    chosen = options.parse_args(arguments)
    report = Report("seal")
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        sealed, unsealed = asyncio.run(measure(Path(folder), chosen.rounds))
    report.figures = {**one_body(), **sealed.figures()}
    report.peers["the same store, unsealed"] = unsealed.figures()
    ratio = median(sealed.single_ms) / median(unsealed.single_ms)
    report.figures["one_sale_ratio_sealed_to_unsealed"] = ratio
    report.figures["batch_ratio_sealed_to_unsealed"] = median(sealed.batch_ms) / median(unsealed.batch_ms)
    report.goals = [
        Goal("sealing one fact, us", float(report.figures["seal_us"]), 20.0),
        Goal("one sale, sealed to unsealed", ratio, 1.1),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
