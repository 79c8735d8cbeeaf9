"""One lane's till on the library, `edge.till`: sells until SIGTERM, then sees everything answered and ends."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path

from edge.bus.messages.facts import MemberIdentified, SaleCompleted, SaleLine, TenderTaken
from edge.till.till import Till

DAY = "2026-05-04"
MOST_PENDING = 200
MEMBER_SHARE = 0.4


async def sell(port: int, store: str, lane: str, ledger: Path, every_s: float) -> None:
    """Sell until told to finish, see everything answered."""
    finish = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, finish.set)
    chance, made, accepted = random.Random(), 0, 0

    async with Till(store=store, lane=lane, ledger_path=ledger, address=f"127.0.0.1:{port}") as till:

        async def record(data: SaleCompleted | TenderTaken | MemberIdentified) -> None:
            nonlocal made, accepted
            pending = await till.fact(data)
            made += 1

            def done(_: object) -> None:
                nonlocal accepted
                accepted += 1

            pending.outcome.add_done_callback(done)

        while not finish.is_set():
            receipt, price = f"{lane}-{till.ledger.last_sequence + 1}", chance.randint(1, 9_999)
            line = SaleLine(
                line=1, item="4006381333931", text="Käse", quantity="1", unit_price_minor=price, amount_minor=price
            )
            await record(
                SaleCompleted(
                    business_day_date=DAY, operator_id="c2", receipt_number=receipt, currency="EUR",
                    lines=(line,), total_minor=price,
                )
            )  # fmt: skip
            await record(
                TenderTaken(
                    business_day_date=DAY, operator_id="c2", receipt_number=receipt, kind="cash", currency="EUR",
                    amount_minor=price,
                )
            )  # fmt: skip
            if chance.random() < MEMBER_SHARE:
                await record(MemberIdentified(receipt_number=receipt, member="m-2"))
            try:
                async with asyncio.timeout(every_s * chance.uniform(0.5, 1.5)):
                    await finish.wait()
            except TimeoutError:
                pass
            while made - accepted > MOST_PENDING and not finish.is_set():
                await asyncio.sleep(0.1)
        await till.all_answered()


def main() -> int:
    """Be one lane's till."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.library_till", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="the store's broker on 127.0.0.1")
    parser.add_argument("--store", required=True)
    parser.add_argument("--lane", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--every-ms", type=float, default=250, help="a sale about every so many ms")
    given = parser.parse_args()
    asyncio.run(sell(given.port, given.store, given.lane, given.ledger, given.every_ms / 1_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
