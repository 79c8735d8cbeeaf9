"""The demo store kept open until Ctrl-C: cashiers sell, people press keys, the view shows what happens.

Without a terminal there is one plain line for each sale and each change of what gateway, link, devices and tills say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from demo.catalogue import Item, label, read_catalogue
from demo.places import Places, log_to
from demo.processes import CannotRun
from demo.receipt import money
from demo.shop import Shop
from demo.shopper import Cashier, Pace, Stuck, till_for
from drivers.virtual.twin import BadRequest

PACE = Pace(step_s=0.9, customer_s=4.0)
FRAMES_PER_S = 4
TWINS_EVERY_S = 0.5
EVENTS_KEPT = 200


class Events:
    """What happened, one line each; `say` may be given a printer for when there is no view."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self.lines: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._say = say
        self._last: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Add a line."""
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        self.lines.append(line)
        if self._say is not None:
            self._say(line)

    def changed(self, what: str, state: str) -> None:
        """Add a line when `state` is not what was last said of `what`."""
        if self._last.get(what) != state:
            self._last[what] = state
            self.add(f"{what}: {state}")


class Person:
    """What somebody at the keyboard can do to the store."""

    def __init__(self, shop: Shop, events: Events, chance: random.Random) -> None:
        self._shop = shop
        self._events = events
        self._chance = chance
        self._items: tuple[Item, ...] = read_catalogue()
        self.lane = 0

    async def press(self, key: str) -> bool:
        """Do what `key` stands for; False to leave."""
        if key in ("q", "\x03"):
            return False
        if key.isdigit() and 1 <= int(key) <= len(self._shop.places.lanes):
            self.lane = int(key) - 1
            return True
        actions: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "s": self._scan,
            "w": self._weigh,
            "d": self._drawer,
            "p": self._paper,
            "x": self._wan,
            "e": self._kill_edge,
            "b": self._kill_bridge,
        }
        if key in actions:
            try:
                await actions[key]()
            except BadRequest as error:
                self._events.add(f"that does not work: {error}")
        return True

    async def _scan(self) -> None:
        lane = self._shop.places.lanes[self.lane]
        item = self._chance.choice([item for item in self._items if item.how != "scale"])
        code = label(item, self._chance)
        await self._shop.control.do(lane.scanner, "scan", text=code)
        self._events.add(f"you scan {item.text} ({code}) at {lane.id}")

    async def _weigh(self) -> None:
        lane = self._shop.places.lanes[self.lane]
        kg = f"{self._chance.randint(80, 2_500) / 1000:.3f}"
        await self._shop.control.do(lane.scale, "load", kg=kg, settle_ms=500)
        self._events.add(f"you put {kg} kg on {lane.scale}")

    async def _drawer(self) -> None:
        lane = self._shop.places.lanes[self.lane]
        state = await self._shop.control.do(lane.printer, "state")
        to = "closed" if state["drawer_open"] else "open"
        await self._shop.control.do(lane.printer, "drawer", to=to)
        self._events.add(f"you {'close' if to == 'closed' else 'open'} {lane.drawer} by hand")

    async def _paper(self) -> None:
        lane = self._shop.places.lanes[self.lane]
        state = await self._shop.control.do(lane.printer, "state")
        to = "ok" if state["paper"] == "end" else "out"
        await self._shop.control.do(lane.printer, "paper", to=to)
        self._events.add(f"you {'put paper into' if to == 'ok' else 'take the paper out of'} {lane.printer}")

    async def _wan(self) -> None:
        wan = self._shop.wan
        await (wan.cut() if wan.whole else wan.restore())
        self._events.add("the WAN is whole again" if wan.whole else "the WAN is cut")

    async def _kill_edge(self) -> None:
        self._kill("edge")

    async def _kill_bridge(self) -> None:
        self._kill("bridge")

    def _kill(self, name: str) -> None:
        pid = self._shop.kill_9(name)
        self._events.add(f"{name} (process {pid}) is killed" if pid else f"{name} does not run at the moment")


async def keep_open(root: Path, lanes: int, seed: int | None, *, plain: bool) -> int:
    """Run the store in `root` until Ctrl-C, SIGTERM or the key q; returns the exit status."""
    if not plain:
        try:
            import rich  # noqa: F401
        except ImportError:
            raise CannotRun("the live view needs the package rich: use --plain, or ./dev run") from None
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    places = Places(root, lanes, spare=True)
    try:
        log_to(places)
        work = asyncio.create_task(_run(places, random.Random(seed), stop, plain=plain), name="store")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            print("closing the store ...", flush=True)
            work.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        places.release()
    print(f"closed; `./dev run` goes on from {root}", flush=True)
    return 0


async def _run(places: Places, chance: random.Random, stop: asyncio.Event, *, plain: bool) -> None:
    async with Shop(places, lambda text: print(text, flush=True)) as shop:
        events = Events((lambda line: print(line, flush=True)) if plain else None)
        shop.watch.on_change = lambda topic: tell_changes(shop, events)
        tell_changes(shop, events)
        async with contextlib.AsyncExitStack() as stack:
            tills = [await stack.enter_async_context(till_for(lane, places)) for lane in places.lanes]
            cashiers = [
                Cashier(lane, till, shop.control, places, read_catalogue(), PACE, f"{chance.random()}", None)
                for lane, till in zip(places.lanes, tills, strict=True)
            ]
            work = sell_and_tell(shop, cashiers, events)
            if not plain:
                work = _with_view(shop, cashiers, events, Person(shop, events, chance), stop, work)
            await shop.guard(work)


async def sell_and_tell(shop: Shop, cashiers: list[Cashier], events: Events) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for cashier in cashiers:
                group.create_task(_shift(cashier, events), name=f"cashier {cashier.lane.id}")
    except* Stuck as stuck:
        raise CannotRun("; ".join(str(error) for error in stuck.exceptions)) from None


async def _shift(cashier: Cashier, events: Events) -> None:
    await cashier.open_lane()
    while True:
        sale = await cashier.sell()
        what = f"{len(sale.lines)} items, {money(sale.total_minor)} EUR {'cash' if sale.cash else 'card'}"
        events.add(f"{cashier.lane.id} sold {what}, receipt {sale.number}")


def tell_changes(shop: Shop, events: Events) -> None:
    watch = shop.watch
    events.changed("gateway", str(watch.gateway.get("state", "unknown")))
    events.changed("link to HQ", watch.link)
    for name, device in watch.devices.items():
        please = device.get("please")
        events.changed(name, f"{device.get('state')}{f' ({please})' if please else ''}")
    for lane, presence in watch.tills.items():
        events.changed(f"till {lane}", "online" if presence.get("online") else "offline")


async def _with_view(
    shop: Shop,
    cashiers: list[Cashier],
    events: Events,
    person: Person,
    stop: asyncio.Event,
    work: Coroutine[Any, Any, None],
) -> None:
    from rich.live import Live

    from demo.live import View

    view = View(shop, cashiers, events.lines)
    with _raw_keys(), Live(view, screen=True, auto_refresh=False) as screen:
        async with asyncio.TaskGroup() as group:
            group.create_task(work, name="cashiers")
            group.create_task(_look_at_twins(shop, view), name="look at devices")
            group.create_task(_press_keys(person, view, stop), name="keys")
            while True:
                screen.refresh()
                await asyncio.sleep(1 / FRAMES_PER_S)


async def _look_at_twins(shop: Shop, view: Any) -> None:
    while True:
        view.twins = await shop.control.devices()
        await asyncio.sleep(TWINS_EVERY_S)


async def _press_keys(person: Person, view: Any, stop: asyncio.Event) -> None:
    async for key in _keys():
        if not await person.press(key):
            stop.set()
        view.chosen = person.lane


@contextlib.contextmanager
def _raw_keys() -> Iterator[None]:
    """Keys come one by one and unechoed; the terminal is as before afterwards."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def _keys() -> AsyncIterator[str]:
    loop, pressed = asyncio.get_running_loop(), asyncio.Queue[str]()

    def read() -> None:
        data = os.read(sys.stdin.fileno(), 64)
        if not data:
            loop.remove_reader(sys.stdin)  # the terminal has gone
        for key in data.decode(errors="replace"):
            pressed.put_nowait(key.lower())

    loop.add_reader(sys.stdin, read)
    try:
        while True:
            yield await pressed.get()
    finally:
        loop.remove_reader(sys.stdin)
