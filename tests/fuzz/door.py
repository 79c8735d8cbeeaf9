"""A door with something behind it: a real store, an authority, a client. Inputs go in, and are judged together.

Behind a door stands a `World` in a temporary folder, with an event loop of its own. A `Door` is what the fuzzer takes
for a parser; all doors of a kind share one world, which is made anew when it has become large. A bug that our own code
catches and logs is as much a finding as one that it lets out.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from drivers.events import Noise
from tests.fuzz.mutation import Mutator
from tests.fuzz.readers import Contradiction, Read, Refused

_MEMORY = Path("/dev/shm")  # a folder of our own in it: millions of commits are hard on a disk
GROWTH_BYTES = 256 * 1024 * 1024
"""More than this process may have grown by since its first world stood."""
BUGS = ("edge", "asyncio")
"""Who logs what went wrong by our own fault."""


class World:
    """What stands behind a door. Everything runs in the loop of `Door`."""

    name = ""
    together = 64
    """Inputs that are judged together: a store commits them together, too."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{self.name}-", dir=_MEMORY if _MEMORY.is_dir() else None))

    async def open(self) -> None:
        """Make what stands behind the door."""

    def feed(self, data: bytes) -> Any:
        """Give it one input; what was understood of it. Raises Refused for what never gets as far as the door."""
        raise NotImplementedError

    async def settle(self, *, alone: bool) -> None:
        """Wait until all is answered, and judge it; thoroughly, when it is one input `alone`. Raises Contradiction."""

    @property
    def worn(self) -> bool:
        """Whether it has become too large to be quick."""
        return False

    async def close(self) -> None:
        """End what runs."""


class Door:
    """As a parser: one input, one event. `receive` raises what is found, perhaps of an input a few before."""

    idle_ms = None
    pending = False

    def __init__(self, make: Callable[[], World]) -> None:
        self._make = make
        self._alone = True

    def receive(self, data: bytes) -> Sequence[Any]:
        """Give it to the world."""
        street = _street(self._make)
        alone, self._alone = self._alone, False
        return [street.take(data, alone=alone)]

    def idle(self) -> Sequence[Any]:
        """Nothing is ever begun."""
        return ()

    def cut_off(self) -> Sequence[Any]:
        """Nothing is ever begun."""
        return ()


class _Street:
    """The world that stands now, its loop, and the inputs that are not judged yet."""

    def __init__(self, make: Callable[[], World]) -> None:
        self._make = make
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._bugs: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._bugs.append(f"{context}"))
        self._since: list[bytes] = []
        self._world: World | None = None
        self._first_bytes: int | None = None
        self._handler = _Bugs(self._bugs)

    def take(self, data: bytes, *, alone: bool) -> Any:
        loggers = [logging.getLogger(name) for name in BUGS]
        for one in loggers:
            one.addHandler(self._handler)
        ours = logging.getLogger("edge")
        told, ours.propagate = ours.propagate, False  # what is refused is many lines
        try:
            if self._world is None:
                world = self._make()
                self._loop.run_until_complete(world.open())
                self._world = world
            if self._first_bytes is None:
                self._first_bytes = _peak_bytes()
            world = self._world
            assert world is not None
            self._since.append(data)
            try:
                event: Any = Read(self._loop.run_until_complete(_called(world.feed, data)))
            except Refused as refused:
                event = Noise(data, str(refused))
            if alone or len(self._since) >= world.together:
                self._settle(world, alone)
            return event
        except BaseException:
            self._leave()
            raise
        finally:
            ours.propagate = told
            for one in loggers:
                one.removeHandler(self._handler)

    def _settle(self, world: World, alone: bool) -> None:
        try:
            self._loop.run_until_complete(world.settle(alone=alone))
        except Contradiction as found:
            raise Contradiction(f"{found}\n    of: {' '.join(one.hex() for one in self._since)}") from None
        if self._bugs:
            raise Contradiction(f"{self._bugs}\n    of: {' '.join(one.hex() for one in self._since)}")
        self._since.clear()
        assert self._first_bytes is not None
        if (grown := _peak_bytes() - self._first_bytes) > GROWTH_BYTES:
            raise Contradiction(f"this process has grown by {grown} bytes")
        if world.worn:
            self._leave()

    def _leave(self) -> None:
        world, self._world = self._world, None
        self._bugs.clear()
        self._since.clear()
        if world is not None:
            self._loop.run_until_complete(world.close())
            shutil.rmtree(world.folder, ignore_errors=True)

    def close(self) -> None:
        self._leave()
        self._runner.close()


class _Bugs(logging.Handler):
    """Keeps what is logged as a bug."""

    def __init__(self, bugs: list[str]) -> None:
        super().__init__(logging.CRITICAL)
        self._bugs = bugs
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._bugs.append(self.format(record))


async def _called(feed: Callable[[bytes], Any], data: bytes) -> Any:
    return feed(data)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_streets: dict[Callable[[], World], _Street] = {}


def _street(make: Callable[[], World]) -> _Street:
    if make not in _streets:
        _streets[make] = _Street(make)
    return _streets[make]


def close_all() -> None:
    """End every world of this process."""
    while _streets:
        _streets.popitem()[1].close()


Finalize(None, close_all, exitpriority=1)  # of a worker, while its threads still run


@dataclass(frozen=True, slots=True)
class Way:
    """How a door is fuzzed. `make` gives what the fuzzer takes for a parser."""

    make: Callable[[], Any]
    seeds: Sequence[bytes]
    mutator: Callable[[int], Mutator] | None = None
    batch: int = 500
    quick: int = 3_000
    hang_s: float = 60.0


Ways = Mapping[str, Way]
