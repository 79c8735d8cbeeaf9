"""One short day of the store, by itself, with faults; then every end is counted and has to agree.

Strategy: cashiers sell at their own pace; the day's plan hangs its faults on what they do, not on the clock, so that it
is the same day on a slow machine: the WAN is cut when a third of the sales are made and comes back, slow at first, at
two thirds; edge is killed (SIGKILL) at a random step of a random sale; the bridge is killed while it drains what
waited for the WAN. The seed decides what is bought and when edge dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from demo.catalogue import read_catalogue
from demo.counting import SHOWN, Count, Heads, count, journal_heads, waiting_for_hq
from demo.places import Lane, Places, log_to
from demo.processes import CannotRun
from demo.shop import Shop
from demo.shopper import Cashier, Pace, Stuck, till_for

PACE = Pace(step_s=0.12, customer_s=0.35)
MOMENTS = (
    "scanning",
    "in the basket",
    "weighing",
    "taking money",
    "between the facts",
    "recorded",
    "printing",
    "opening the drawer",
)
LATEST_S = 0.15
"""Edge dies up to this long after the moment begins: about as long as a print job or an opening takes."""

SLOW_BYTES_PER_SALE, SLOWEST_BYTES_PER_S, SLOW_BYTES_PER_S = 40, 1_500, 4_000
"""What the WAN carries when it comes back: the drain then takes seconds, and the bridge can be killed in it."""

GREETING_BYTES, BYTES_PER_FACT = 600, 5
"""What the bridge says before its first batch, and the least that a waiting fact adds: above it, batches are going."""

LATE = 0.93
"""From this share of the day on, any step will do for edge to die: its own moment may never come in a short day."""

FEWEST_SALES = 6

TILLS_WITHIN_S = 90.0
HQ_WITHIN_S = 180.0
DRAIN_WITHIN_S = 120.0
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """A day. `edge_dies` says in which sale (counted over all lanes from 1), at which moment and how long after."""

    lanes: int
    sales: int
    seed: int
    edge_dies: tuple[int, str, float]

    @classmethod
    def make(cls, lanes: int, sales: int, seed: int | None) -> Self:
        """The day of `seed`; without one, of a seed that is drawn and shown."""
        seed = random.SystemRandom().randrange(10**6) if seed is None else seed
        chance = random.Random(seed)
        total = lanes * sales
        if total < FEWEST_SALES:
            raise CannotRun(
                f"a day needs at least {FEWEST_SALES} sales in all, for its WAN cut and two kills: raise --sales"
            )
        # Not around two thirds: there it is the bridge's turn.
        share = chance.choice((chance.uniform(0.1, 0.58), chance.uniform(0.8, 0.9)))
        return cls(
            lanes, sales, seed, (max(1, int(total * share)), chance.choice(MOMENTS), chance.uniform(0, LATEST_S))
        )

    @property
    def total(self) -> int:
        """Sales of all lanes."""
        return self.lanes * self.sales

    @property
    def cut_after(self) -> int:
        """The WAN is cut when so many sales are made."""
        return self.total // 3

    @property
    def restore_after(self) -> int:
        """And comes back when so many are."""
        return max(self.cut_after + 1, self.total * 2 // 3)


@dataclass(slots=True)
class Day:
    """What happens on the day, and what is written down of it."""

    plan: Plan
    shop: Shop
    tell: Any
    started: int = 0
    made: int = 0
    edge_killed: bool = False
    faults: list[asyncio.Task[None]] = field(default_factory=list)
    killed: list[dict[str, Any]] = field(default_factory=list)
    wan_back: asyncio.Event = field(default_factory=asyncio.Event)
    at_rest: Heads = field(default_factory=dict)

    def moment(self, lane: Lane, moment: str) -> None:
        """A cashier is about to take a step: the time for edge to die may have come."""
        sale, wanted, after_s = self.plan.edge_dies
        late = self.made >= min(self.plan.total * LATE, self.plan.total - self.plan.lanes)
        if self.edge_killed or self.made + 1 < sale or (moment != wanted and not late):
            return
        self.edge_killed = True
        self.faults.append(asyncio.create_task(self._kill_edge(lane, moment, after_s), name="kill edge"))

    async def sold(self, number: str) -> None:
        """A sale is made: the time for the WAN may have come."""
        self.made += 1
        if self.made % 10 == 0:
            waiting = self.shop.watch.backlog
            self.tell(
                f"{self.made} of {self.plan.total} sales; link {self.shop.watch.link}, {waiting} facts wait for HQ"
            )
        if self.made == self.plan.cut_after:
            await self.shop.wan.cut()
            self.tell("the WAN is cut")
        elif self.made == self.plan.restore_after:
            rate = max(SLOWEST_BYTES_PER_S, min(SLOW_BYTES_PER_S, SLOW_BYTES_PER_SALE * self.plan.total))
            self.shop.wan.shape(up_kbit=rate / 125)
            await self.shop.wan.restore()
            self.tell(f"the WAN is back, {rate} bytes a second at first")
            self.wan_back.set()

    async def _kill_edge(self, lane: Lane, moment: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        pid = self.shop.kill_9("edge")
        if pid is None:
            raise CannotRun("edge did not run when it was to be killed: see store.log")
        where = f"{lane.id}, {moment}, {after_s * 1000:.0f} ms later"
        self.killed.append({"what": "edge", "pid": pid, "sale": self.made + 1, "where": where})
        self.tell(f"edge is killed ({where})")

    async def kill_bridge_in_drain(self) -> None:
        """Wait for the drain after the cut, kill the bridge in it, and let the WAN be fast again."""
        await self.wan_back.wait()
        shop = self.shop
        sent_before = shop.wan.up.carried_bytes

        def draining() -> bool:
            return shop.watch.link == "online" and shop.watch.backlog > 0

        try:
            async with asyncio.timeout(DRAIN_WITHIN_S):
                while True:
                    await shop.watch.until(draining, DRAIN_WITHIN_S)
                    heads = await asyncio.to_thread(journal_heads, shop.places)
                    waiting = await asyncio.to_thread(waiting_for_hq, shop.places, heads)
                    sent = shop.wan.up.carried_bytes - sent_before
                    going = waiting > 0 and sent > GREETING_BYTES + BYTES_PER_FACT * waiting
                    if draining() and going and (pid := shop.kill_9("bridge")) is not None:
                        break
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise CannotRun(f"the bridge did not drain within {DRAIN_WITHIN_S:g} s: see bridge.log") from None
        self.killed.append({"what": "bridge", "pid": pid, "waiting": waiting, "bytes_sent": sent})
        self.tell(f"the bridge is killed in the drain ({waiting} facts not at HQ, {sent} bytes had gone)")
        shop.wan.shape(up_kbit=0)


async def live_once(plan: Plan, state: Path | None, *, as_json: bool) -> int:
    """Live the day, count, print; 0 when every count agrees."""
    root = state or Path(".store") / f"once-{time.strftime('%Y%m%d-%H%M%S')}-{plan.seed}"
    if root.exists() and any(root.iterdir()):
        raise CannotRun(f"{root} is not empty, and --once starts afresh: give another --state, or remove it")
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", file=sys.stderr if as_json else sys.stdout, flush=True)

    places = Places(root, plan.lanes)
    try:
        tell(f"one day: {plan.lanes} lanes, {plan.sales} sales each, seed {plan.seed}")
        log_to(places)
        day = await _live(plan, places, tell)
        result = await asyncio.to_thread(count, places, day.at_rest)
    finally:
        places.release()
    result.check("edge killed in a sale, bridge in a drain", len(day.killed) == 2, f"{len(day.killed)} killed")
    report = {
        "sales_made": result.sales_made,
        "accepted": result.accepted,
        "in_journal": result.in_journal,
        "at_hq": result.at_hq,
        "duplicates_at_hq": result.duplicates_at_hq,
        "gaps": result.gaps,
        "receipts_printed": result.receipts_printed,
        "receipts_unknown": result.receipts_unknown,
        "drawer_openings": result.drawer_openings,
        "wan_cut_s": round(day.shop.wan.cut_s, 1),
        "kills": len(day.killed),
        "seconds": round(time.monotonic() - started, 1),
        "agrees": result.agrees,
        "seed": plan.seed,
        "killed": day.killed,
        "copies_printed": result.copies_printed,
        "facts_in_journal": result.facts_in_journal,
        "facts_at_hq": result.facts_at_hq,
        "checks": [asdict(check) for check in result.checks],
    }
    _show(report, result, as_json=as_json)
    if result.agrees and state is None:
        shutil.rmtree(root)
    else:
        tell(f"everything is kept in {root}")
    return 0 if result.agrees else 1


async def _live(plan: Plan, places: Places, tell: Any) -> Day:
    interrupted = asyncio.current_task()
    assert interrupted is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, interrupted.cancel)
    async with Shop(places, tell) as shop:
        day = Day(plan, shop, tell)
        await shop.guard(_sell(day, places))
        tell("closing the store")
    return day


async def _sell(day: Day, places: Places) -> None:
    plan = day.plan
    async with contextlib.AsyncExitStack() as stack:
        tills = [await stack.enter_async_context(till_for(lane, places)) for lane in places.lanes]
        cashiers = [
            Cashier(
                lane,
                till,
                day.shop.control,
                places,
                read_catalogue(),
                PACE,
                f"{plan.seed}-{lane.id}",
                moment=day.moment,
            )
            for lane, till in zip(places.lanes, tills, strict=True)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                drain = group.create_task(day.kill_bridge_in_drain(), name="kill bridge")
                for cashier in cashiers:
                    group.create_task(_shift(cashier, day), name=f"cashier {cashier.lane.id}")
            await drain
            await asyncio.gather(*day.faults)
        except* Stuck as stuck:
            raise CannotRun("; ".join(str(error) for error in stuck.exceptions)) from None
        except* CannotRun as cannot:
            raise cannot.exceptions[0] from None
        day.tell("all sales are made; waiting until HQ has everything")
        for till in tills:
            await _bounded(till.all_answered(), TILLS_WITHIN_S, f"{till.lane} still has facts the gateway never took")
    await _bounded(_until_at_hq(day), HQ_WITHIN_S, "HQ did not get everything")


async def _shift(cashier: Cashier, day: Day) -> None:
    """One lane's day."""
    await cashier.open_lane()
    for _ in range(day.plan.sales):
        sale = await cashier.sell()
        await day.sold(sale.number)


async def _until_at_hq(day: Day) -> None:
    """Until HQ's database has every fact of the journal; the gateway may still add some of its own."""
    places = day.shop.places
    waiting = 1
    while waiting:
        day.at_rest = await asyncio.to_thread(journal_heads, places)
        waiting = await asyncio.to_thread(waiting_for_hq, places, day.at_rest)
        if waiting:
            await asyncio.sleep(LOOK_S)


async def _bounded(work: Any, within_s: float, text: str) -> None:
    """Wait for `work`; when it takes too long go on to the count, which then shows what is missing."""
    try:
        async with asyncio.timeout(within_s):
            await work
    except TimeoutError:
        print(f"{text} within {within_s:g} s", file=sys.stderr, flush=True)


def _show(report: dict[str, Any], result: Count, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        if result.agrees:
            return
    out = sys.stderr if as_json else sys.stdout
    print(file=out)
    for key in list(report)[:12]:
        print(f"  {key:<18} {report[key]}", file=out)
    print(file=out)
    for check in result.checks:
        print(f"  {'agrees ' if check.good else 'DIFFERS'}  {check.name}: {check.detail}", file=out)
        for line in check.differ[:SHOWN]:
            print(f"             {line}", file=out)
        if len(check.differ) > SHOWN:
            print(f"             ... and {len(check.differ) - SHOWN} more", file=out)
