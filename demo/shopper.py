"""One lane at work: a cashier with a till, and the customer's goods on the virtual devices.

The cashier does what cashiers do when something fails: scans again, keys in the code, reads the scale's own display,
looks at the paper before asking for a copy, looks at the drawer before opening it again. Whatever went unusually is
written down (`Notes`), because the day's count has to explain it.

Facts come first: tender and sale are on the till's disk before the paper and the drawer are asked for.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from demo import receipt
from demo.catalogue import Item, amount_minor, label
from demo.places import Lane, Places
from demo.pole import Pole
from drivers.virtual.control import Control
from edge.bus.envelope import new_id
from edge.bus.messages.facts import MeasuredWeight, SaleCompleted, SaleLine, TenderTaken
from edge.bus.messages.replies import Code, ProblemError
from edge.till import Identity, Price, Scan, Till

SCAN_WITHIN_S = 3.0
WEIGH_WITHIN_MS = 6_000
PRINT_WITHIN_MS = 20_000
DRAWER_WITHIN_MS = 15_000
RECEIPT_TTL_MS = 600_000
LOOK_AGAIN_S = 0.5
KEEP_TRYING_S = 120.0
"""In a fault the cashier keeps at it for so long before calling a technician (`Stuck`)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast people are: seconds between two steps, and between two customers; both vary by half."""

    step_s: float
    customer_s: float


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale as the cashier knows it."""

    number: str
    total_minor: int
    lines: tuple[SaleLine, ...]
    cash: bool


class Stuck(Exception):
    """A cashier's patience has ended in the middle of a sale; the text says what is missing."""


class Notes:
    """What a cashier wrote down: one JSON line each, on disk when `write` returns."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, what: str, number: str, detail: str = "") -> None:
        """Note `what` happened in sale `number`."""
        line = {"what": what, "sale": number, "detail": detail, "time": datetime.now(UTC).isoformat()}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def no_moment(lane: Lane, moment: str) -> None:
    """Nothing special happens at this moment."""


class Cashier:
    """Serves one customer after the other at `lane`. `moment` is told of each step just before it is taken."""

    def __init__(
        self,
        lane: Lane,
        till: Till,
        control: Control,
        places: Places,
        catalogue: Sequence[Item],
        pace: Pace,
        seed: str,
        patience_s: float | None = KEEP_TRYING_S,
        moment: Callable[[Lane, str], None] = no_moment,
    ) -> None:
        self.lane = lane
        self.till = till
        self.basket: list[SaleLine] = []
        self.last_scan: Scan | None = None
        self.last_sale: Sale | None = None
        self.doing = ""
        self.sales = 0
        self._control = control
        self._places = places
        self._catalogue = catalogue
        self._by_hand = [item for item in catalogue if item.how == "scale"]
        self._with_label = [item for item in catalogue if item.how != "scale"]
        self._pace = pace
        self._chance = random.Random(seed)
        self._patience_s = patience_s
        self._moment = moment
        self._notes = Notes(places.notes(lane))
        self._pole = Pole(till)

    async def open_lane(self) -> None:
        """Ask the price of everything once, as a till does in the morning: it can then sell without the gateway."""
        self.doing = "opening"
        for item in self._catalogue:
            await self._price(item.code)

    async def sell(self) -> Sale:
        """One customer, from the first scan to the closed drawer."""
        try:
            return await self._serve()
        finally:
            await self._pole.close()

    async def _serve(self) -> Sale:
        self.basket = []
        self.till.discard_scans()
        for item in self._goods():
            await self._step("scanning")
            self.basket.append(await (self._weigh(item) if item.how == "scale" else self._scan(item)))
            self._pole.item(self.basket[-1])
            self._moment(self.lane, "in the basket")
        sale = await self._take_money()
        await self._print(sale)
        if sale.cash:
            await self._open_drawer(sale)
        self._pole.thanks()
        self.last_sale = sale
        self.sales += 1
        self.doing = ""
        await asyncio.sleep(self._pace.customer_s * self._chance.uniform(0.5, 1.5))
        return sale

    # -- the goods -----------------------------------------------------------------------------------------------------

    def _goods(self) -> list[Item]:
        goods = self._chance.choices(self._with_label, k=self._chance.randint(1, 3))
        if self._chance.random() < 0.3:
            goods.append(self._chance.choice(self._by_hand))
        return goods

    async def _scan(self, item: Item) -> SaleLine:
        code = label(item, self._chance)
        scan = await self._scanned(code)
        lookup = scan.item if scan is not None and scan.item is not None else item.code
        price = await self._price(lookup)
        line: dict[str, Any] = {"line": len(self.basket) + 1, "item": item.code, "text": price.text}
        if scan is not None:
            line["scan_id"] = scan.scan_id
        if item.how == "gtin":
            count = self._chance.choice((1, 1, 1, 2))
            amount = price.price_minor * count
            return SaleLine(quantity=str(count), unit_price_minor=price.price_minor, amount_minor=amount, **line)
        inside = Decimal(int(code[7:12]))
        if item.how == "price label":
            amount = int(inside) if scan is None or scan.price_minor is None else scan.price_minor
            return SaleLine(quantity="1", unit_price_minor=amount, amount_minor=amount, **line)
        weight = f"{inside / 1000:.3f}" if scan is None or scan.weight is None else scan.weight
        return self._by_weight(price, weight, line)

    async def _scanned(self, code: str) -> Scan | None:
        """Hold the packet to the scanner until the till has it; None: keyed in after two scans that did not come."""
        for _ in range(2):
            self._moment(self.lane, "scanning")
            await self._control.do(self.lane.scanner, "scan", text=code)
            try:
                async with asyncio.timeout(SCAN_WITHIN_S):
                    while True:
                        scan = await self.till.next_scan()
                        if scan.text == code:
                            self.last_scan = scan
                            return scan
                        self._notes.write("another scan", "", f"{scan.text} instead of {code}")
            except TimeoutError:
                self._notes.write("no scan", "", code)
        self._notes.write("keyed in", "", code)
        return None

    async def _weigh(self, item: Item) -> SaleLine:
        price = await self._price(item.code)
        plate = f"{self._chance.randint(80, 2_500) / 1000:.3f}"
        await self._control.do(self.lane.scale, "load", kg=plate, settle_ms=self._chance.choice((0, 150, 300)))
        self._moment(self.lane, "weighing")
        try:
            weight = (await self.till.request("scale.weigh", deadline_ms=WEIGH_WITHIN_MS))["value"]
        except ProblemError as problem:
            self._notes.write("weight read from the display", "", str(problem))
            weight = plate
        await self._control.do(self.lane.scale, "unload")
        return self._by_weight(price, weight, {"line": len(self.basket) + 1, "item": item.code, "text": price.text})

    def _by_weight(self, price: Price, weight: str, line: dict[str, Any]) -> SaleLine:
        return SaleLine(
            quantity=str(Decimal(weight)),
            unit_price_minor=price.price_minor,
            amount_minor=amount_minor(price.price_minor, Decimal(weight)),
            weight=MeasuredWeight(value=str(Decimal(weight)), unit="kg"),
            **line,
        )

    async def _price(self, code: str) -> Price:
        """The price, waiting for the gateway where this till has never asked for it."""
        async with self._patience(f"the price of {code}"):
            while True:
                try:
                    return await self.till.price(code)
                except ProblemError as problem:
                    if problem.code is not Code.TIMED_OUT:
                        raise
                await asyncio.sleep(LOOK_AGAIN_S)

    # -- money, paper, drawer ------------------------------------------------------------------------------------------

    async def _take_money(self) -> Sale:
        await self._step("taking money")
        lines = tuple(self.basket)
        total = sum(line.amount_minor for line in lines)
        cash = self._chance.random() < 0.5
        given = -(-total // 500) * 500 if cash else total
        number = f"{self.lane.number:02d}-{self.till.ledger.last_sequence + 1:06d}"
        sale = Sale(number, total, lines, cash)
        day = datetime.now(UTC).date().isoformat()
        operator = f"cashier-{self.lane.number}"
        self._pole.total(total, given - total)
        self._moment(self.lane, "taking money")
        await self.till.fact(
            TenderTaken(
                business_day_date=day,
                operator_id=operator,
                receipt_number=number,
                kind="cash" if cash else "card",
                currency="EUR",
                amount_minor=given,
                change_minor=given - total,
            )
        )
        self._moment(self.lane, "between the facts")
        await self.till.fact(
            SaleCompleted(
                business_day_date=day,
                operator_id=operator,
                receipt_number=number,
                currency="EUR",
                lines=lines,
                total_minor=total,
                price_version=self.till.gateway.price_version,
            )
        )
        self._moment(self.lane, "recorded")
        return sale

    async def _print(self, sale: Sale) -> None:
        self.doing = "printing"
        paid = f"{'cash' if sale.cash else 'card'}   {datetime.now(UTC):%Y-%m-%d %H:%M:%S}   thank you"
        document = receipt.document("TILLGATE DEMO", self.lane.name, sale.number, sale.lines, sale.total_minor, paid)
        job = f"receipt-{sale.number}"
        asking = self.till.request(
            "print",
            {"job": job, "document": document, "ttl_ms": RECEIPT_TTL_MS},
            deadline_ms=PRINT_WITHIN_MS,
        )
        self._moment(self.lane, "printing")
        try:
            await asking
        except ProblemError as problem:
            self._notes.write("print went unusually", sale.number, str(problem))
            if problem.code in (Code.BAD_MESSAGE, Code.UNKNOWN_OPERATION, Code.NOT_YOURS):
                raise Stuck(f"the gateway does not take the receipt {sale.number}: {problem}") from None
            async with self._patience(f"the receipt {sale.number}"):
                await self._until_on_paper(sale, job, document)

    async def _until_on_paper(self, sale: Sale, job: str, document: list[Any]) -> None:
        """Look at the paper first; ask for it again only if it is not there and will not come by itself."""
        while not self._on_paper(sale):
            state = await self._job_state(job)
            if state in ("queued", "sending"):  # it is the printer's turn, or a person's
                self.doing = "waiting for the printer"
            elif state == "absent":  # the gateway never got it
                await self._ask_quietly("print", {"job": job, "document": document, "ttl_ms": RECEIPT_TTL_MS})
            elif state != "away":
                await asyncio.sleep(LOOK_AGAIN_S)  # the last line may be on its way out of the printer
                if self._on_paper(sale):
                    return
                self._notes.write("copy asked for", sale.number, f"the job is {state} and not on the paper")
                copy = await self._copy(job)
                if copy is not None:
                    job = copy
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _copy(self, job: str) -> str | None:
        """Ask for a copy; the copy's job, to be looked after like the first, or None when it was not taken."""
        id_ = new_id()
        await self._ask_quietly("print.reprint", {"job": job, "reason": "not on the paper"}, id_=id_)
        return id_ if await self._job_state(id_) != "absent" else None

    async def _job_state(self, job: str) -> str:
        """The job's state in the gateway's ledger; ``absent``: not known there, ``away``: the gateway did not say."""
        try:
            return str((await self.till.request("print.state", {"job": job}))["state"])
        except ProblemError as problem:
            return "absent" if problem.code is Code.NOT_FOUND else "away"

    async def _ask_quietly(self, operation: str, parameters: dict[str, Any], id_: str | None = None) -> None:
        """Ask; how it ended is told by the paper and by `print.state`."""
        try:
            await self.till.request(operation, parameters, deadline_ms=PRINT_WITHIN_MS, id_=id_)
        except ProblemError as problem:
            self._notes.write(f"{operation} again", str(parameters["job"]), str(problem))

    def _on_paper(self, sale: Sale) -> bool:
        return receipt.read_paper(self._places.paper(self.lane)).has(sale.number)

    async def _open_drawer(self, sale: Sale) -> None:
        self.doing = "giving change"
        async with self._patience(f"{self.lane.drawer} to open"):
            opened = await self._drawer_opened(sale)
            while not opened:
                await asyncio.sleep(LOOK_AGAIN_S)
                opened = await self._drawer_opened(sale)
        await asyncio.sleep(self._pace.step_s * self._chance.uniform(0.5, 1.5))
        await self._control.do(self.lane.printer, "drawer", to="closed")

    async def _drawer_opened(self, sale: Sale) -> bool:
        asking = self.till.request(
            "drawer.open",
            {"operator_id": f"cashier-{self.lane.number}", "receipt_number": sale.number},
            deadline_ms=DRAWER_WITHIN_MS,
        )
        self._moment(self.lane, "opening the drawer")
        try:
            if (await asking)["opened"]:
                return True
        except ProblemError as problem:
            self._notes.write("drawer went unusually", sale.number, str(problem))
        return bool((await self._control.do(self.lane.printer, "state"))["drawer_open"])

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_s):
                yield
        except TimeoutError:
            text = f"{self.lane.id} waited {self._patience_s:g} s for {what}: see the logs"
            raise Stuck(text) from None

    async def _step(self, doing: str) -> None:
        self.doing = doing
        await asyncio.sleep(self._pace.step_s * self._chance.uniform(0.5, 1.5))


def till_for(lane: Lane, places: Places) -> Till:
    """The enrolled till of a lane, with its ledger in the state folder."""
    identity = replace(Identity.load(places.identity(lane)), bus_port=places.ports.tls, enrol_port=places.ports.enrol)
    return Till(
        identity=identity, ledger_path=places.ledger(lane), address=identity.bus(), app="demo-till", version="1"
    )  # fmt: skip
