"""The whole demo store as real processes, started in order and stopped in reverse.

    cloud      a second mosquitto, which plays the cloud's broker
    hq         `tillgate hq receive`, with its own database
    wan        a TCP relay in this process, which can be cut
    devices    the virtual devices, at the far end of ptys and sockets
    store      `tillgate run`: broker, edge, bridge

The product runs as it would anywhere, from `store.toml`. What this module knows of it are its command line, its bus and
its pid files.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo import processes
from demo.catalogue import FILE as CATALOGUE
from demo.places import STORE_ID, Places
from demo.processes import CannotRun, Child
from demo.wan import Wan
from demo.watch import Watch
from drivers.virtual.control import Control
from edge.commands.desk import NoGateway, Refused, ask
from edge.config import load
from edge.till import NotEnrolled, enrol

PYTHON = sys.executable
TILLGATE = (PYTHON, "-m", "edge.cli")
READY_WITHIN_S = 60.0
PRICES_WITHIN_S = 60.0

Tell = Callable[[str], None]


class Shop:
    """Use it as ``async with``; everything runs inside. `tell` gets a line for each step of starting up."""

    def __init__(self, places: Places, tell: Tell) -> None:
        self.places = places
        self.wan = Wan(places.ports.cloud, port=places.ports.wan, probe_port=places.ports.probe)
        self.watch = Watch(places.broker_socket)
        self.control = Control(places.control)
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, and stop it with CannotRun when one of the processes ends by itself meanwhile."""
        task = asyncio.create_task(work, name="demo")
        ends = [asyncio.create_task(child.ended(), name=f"watch {child.name}") for child in self._children.values()]
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                if end.done():
                    raise end.result()
            await task
        finally:
            for one in (task, *ends):
                one.cancel()
            await asyncio.gather(task, *ends, return_exceptions=True)

    def kill_9(self, name: str) -> int | None:
        """SIGKILL edge, bridge or broker as a crash would; its pid, or None when it does not run at the moment."""
        return processes.kill_9(self.places.pid_file(name))

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        places, ports = self.places, self.places.ports
        mosquitto = processes.find_mosquitto()
        self._tell(f"state in {places.root}")
        places.write_config(await self._price_key())
        await processes.run("check", [*TILLGATE, "check", places.config], places.log)

        self._tell(f"cloud: mosquitto on port {ports.cloud}, the WAN before it on port {ports.wan}")
        await self._child("cloud", [mosquitto, "-c", places.write_cloud_config()])
        await self._until_listening("cloud", ports.cloud)
        await self._stack.enter_async_context(self.wan)

        self._tell("HQ: receiver")
        broker = f"127.0.0.1:{ports.cloud}"
        await self._child("hq", [*TILLGATE, "hq", "receive", "--url", self._hq_url, "--broker", broker])

        self._tell(f"virtual devices: {len(places.lanes)} lanes with scanner, printer, drawer and scale each")
        command = [PYTHON, "-m", "demo.devices", "--state", places.devices, "--control", places.control]
        devices = await self._child("devices", [*command, *places.device_specs()], talks=True)
        await devices.first_line(READY_WITHIN_S)
        await self._stack.enter_async_context(self.control)

        where = f"tills connect to 127.0.0.1:{ports.tls}, without TLS :{ports.bus}"
        self._tell(f"store {STORE_ID}: broker, edge and bridge; {where}")
        await self._child("store", [*TILLGATE, "run", "--config", places.config, "--log-dir", places.log])
        await self._stack.enter_async_context(self.watch)
        await self._wait_for("the store", lambda: self.watch.serving, READY_WITHIN_S)
        await self._enrol()
        await self._wait_for("the link to HQ", lambda: self.watch.link == "online", READY_WITHIN_S)
        await self._prices()

    async def _child(self, name: str, command: list[Any], *, talks: bool = False) -> Child:
        child = await processes.start(name, command, self.places.log, talks=talks)
        self._children[name] = child
        self._stack.push_async_callback(child.stop)
        return child

    async def _until_listening(self, name: str, port: int) -> None:
        async def try_until_it_answers() -> None:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

        await self._unless_it_ends(name, try_until_it_answers(), f"{name} does not listen on port {port}")

    async def _wait_for(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        async def until() -> None:
            if not await self.watch.until(holds, within_s):
                raise CannotRun(f"{what} did not come up within {within_s:g} s: see the files in {self.places.log}")

        await self.guard(until())

    async def _unless_it_ends(self, name: str, work: Coroutine[Any, Any, None], text: str) -> None:
        async def bounded() -> None:
            try:
                async with asyncio.timeout(READY_WITHIN_S):
                    await work
            except TimeoutError:
                raise CannotRun(f"{text}.\n{self._children[name].last_words()}") from None

        await self.guard(bounded())

    # -- tills ---------------------------------------------------------------------------------------------------------

    async def _enrol(self) -> None:
        """Each lane that has no till yet is invited, and its till enrols, as anywhere."""
        new = [lane for lane in self.places.lanes if not self.places.identity(lane).exists()]
        if new:
            self._tell(f"tills of {', '.join(lane.id for lane in new)} enrol")
        for lane in new:
            try:
                made = await ask(load(self.places.config), "lanes.invite", {"lane": lane.id}, READY_WITHIN_S)
                await enrol(made["text"], self.places.identity(lane), lane=lane.id)
            except (NoGateway, Refused, NotEnrolled) as error:
                raise CannotRun(f"the till of {lane.id} cannot enrol: {error}") from None

    # -- prices --------------------------------------------------------------------------------------------------------

    @property
    def _hq_url(self) -> str:
        return f"sqlite:///{self.places.hq_db}"

    async def _price_key(self) -> str:
        """HQ's public key for prices; made at the first start."""
        file = self.places.root / "hq.pub"
        if not file.exists():
            self.places.hq_key.unlink(missing_ok=True)  # left by a start that was interrupted
            said = await processes.run("keygen", [*TILLGATE, "hq", "keygen", self.places.hq_key], self.places.log)
            found = re.search(r"[A-Za-z0-9+/]{43}=", said)
            if found is None:
                raise CannotRun(f"`tillgate hq keygen` printed no public key but: {said!r}")
            file.write_text(found[0] + "\n", encoding="utf-8")
        return file.read_text(encoding="utf-8").strip()

    async def _prices(self) -> None:
        """HQ publishes the catalogue when this store has no prices yet; the store's own price version says so."""
        if not self.watch.gateway.get("price_version"):
            self._tell("HQ publishes prices")
            places = self.places
            command: list[str | Path] = [*TILLGATE, "hq", "prices", "publish", CATALOGUE]
            command += ["--url", self._hq_url, "--broker", f"127.0.0.1:{places.ports.cloud}"]
            command += ["--store", STORE_ID, "--key", places.hq_key, "--version", "demo-1", "--currency", "EUR"]
            kept_for_later = 3  # not sent now; the store asks for it as soon as it is linked
            await processes.run("publish", command, places.log, good=(0, kept_for_later))
        have_prices = lambda: bool(self.watch.gateway.get("price_version"))  # noqa: E731
        await self._wait_for("the price version", have_prices, PRICES_WITHIN_S)
