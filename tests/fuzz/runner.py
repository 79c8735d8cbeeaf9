"""Feeds inputs to one parser: no crash, no hang, no unbounded memory, nothing delivered that was not sent.

Every input: `receive` must not raise, what it delivers must be sound (`check`), and after `cut_off` nothing may be left
begun. Every sixteenth input is fed to two fresh parsers, whole and in pieces: both must deliver the same. Now and then
a very long input: what the parser keeps of it is measured. A guided stretch (`explore`) traces which lines follow
which, and keeps the inputs that went a new way, so that the fast stretch starts from deep within the parser.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from drivers.events import Event, Noise, Scan, Weight
from drivers.protocol import DeviceProtocol
from tests.fuzz.mutation import Mutator
from tests.fuzz.oracles import ORACLES, Oracle
from tests.fuzz.targets import Setup, Target

KEPT_LIMIT_BYTES = 256 * 1024
"""More than a parser may hold at any moment."""
HANG_S = 5.0
"""No input may take longer; this leaves room for a machine that does other things."""
CORPUS_LIMIT = 400
ODD_PIECES = 7
"""Bytes. Records of more than one byte are cut so: within each of them, and in another place each time."""
_OURS = ("/drivers/", "/edge/", "/cloud_bridge/")
_VALUE = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not happen. `data` alone, fed to a fresh parser, may or may not show it again."""

    kind: str
    setup: Setup
    what: str
    data: bytes

    def __str__(self) -> str:
        again = f"./dev fuzz --replay {self.kind} {self.data.hex()}"
        return f"{self.kind} {dict(self.setup.options)}: {self.what}\n    {again}"


@dataclass(slots=True)
class Tally:
    """What a stretch came to."""

    inputs: int = 0
    events: Counter[str] = field(default_factory=Counter)
    ways: int = 0
    longest_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class Fuzzer:
    """One target with its corpus. `stretch` may be called again and again."""

    def __init__(self, target: Target, seed: int) -> None:
        self._target = target
        self._oracle = ORACLES.get(target.kind)
        self._mutator = (
            target.mutate(seed)
            if target.mutate is not None
            else Mutator(target.seeds, target.step_bytes, seed, self._oracle.seal if self._oracle else None)
        )
        self._ways: set[tuple[Any, ...]] = set()
        self._setups = [(setup, target.parser(setup)) for setup in target.setups]
        self._turn = seed

    def stretch(self, seconds: float, *, guided: bool = False, inputs: int | None = None) -> Tally:
        """Feed inputs for so long, or so many of them; ends at the first finding."""
        tally = Tally()
        end = time.perf_counter() + seconds
        while (time.perf_counter() < end) if inputs is None else (tally.inputs < inputs):
            self._turn += 1
            setup, parser = self._setups[self._turn % len(self._setups)]
            if self._turn % 97 == 0:  # a fresh one: what was remembered is forgotten
                parser = self._target.parser(setup)
                self._setups[self._turn % len(self._setups)] = (setup, parser)
            fed: deque[bytes] = deque(maxlen=1)
            began = time.perf_counter()
            try:
                with _no_hang(self._target.hang_s or HANG_S):
                    if guided:
                        self._explore(setup, parser, tally, fed)
                    else:
                        self._batch(setup, parser, tally, fed)
            except Unsound as unsound:
                tally.findings.append(Finding(self._target.kind, setup, str(unsound), fed[0] if fed else b""))
            except Exception as error:  # noqa: BLE001  # whatever a parser raises is what is looked for
                what = f"{type(error).__name__}: {error}"
                tally.findings.append(Finding(self._target.kind, setup, what, fed[0] if fed else b""))
            tally.longest_s = max(tally.longest_s, time.perf_counter() - began)
            if tally.findings:
                return tally
        return tally

    def once(self, data: bytes) -> list[tuple[Setup, list[Event]]]:
        """Feed one input to fresh parsers of every set-up; raises what goes wrong."""
        out = []
        for setup in self._target.setups:
            parser = self._target.parser(setup)
            events = [*self._pieces(parser, data), *self._end(parser)]
            check(events, data, self._oracle, setup.options)
            out.append((setup, events))
        return out

    def _batch(self, setup: Setup, parser: DeviceProtocol, tally: Tally, fed: deque[bytes]) -> None:
        following, receive, cut_off = self._mutator.next, parser.receive, parser.cut_off
        counted, options, oracle, whole = tally.events, setup.options, self._oracle, self._target.split != "steps"
        for number in range(self._target.batch):
            data = following()
            fed.append(data)
            events = [*receive(data)] if whole else [*self._pieces(parser, data)]
            if number & 1 and parser.pending:  # every other one ends with silence, which may make a frame whole
                events += parser.idle()
            events += cut_off()
            if parser.pending:
                raise Unsound("something is still begun after cut_off")
            if events:
                for event in events:
                    counted[type(event).__name__] += 1
                check(events, data, oracle, options)
            if number % 16 == 0 and self._target.split != "never":
                self._same_in_pieces(setup, data)
        tally.inputs += self._target.batch
        if self._turn % 50 == 0:
            data = self._mutator.long()
            fed.append(data)
            for piece in self._cut(data, 997):
                parser.receive(piece)
            if (kept := kept_bytes(parser)) > KEPT_LIMIT_BYTES:
                raise Unsound(f"keeps {kept} bytes of an input of {len(data)}")
            parser.cut_off()
            if (kept := kept_bytes(parser)) > KEPT_LIMIT_BYTES:
                raise Unsound(f"keeps {kept} bytes after the link has ended")
            tally.inputs += 1

    def _same_in_pieces(self, setup: Setup, data: bytes) -> None:
        whole, parser = self._target.parser(setup), self._target.parser(setup)
        expected = [*self._pieces(whole, data), *self._end(whole)]
        events: list[Event] = []
        for piece in self._cut(data, 1 if self._target.step_bytes == 1 else ODD_PIECES):
            events += parser.receive(piece)
        events += self._end(parser)
        if _meant(events) != _meant(expected):
            raise Unsound(f"in pieces it delivers {_meant(events)}, whole {_meant(expected)}")

    def _cut(self, data: bytes, count: int) -> list[bytes]:
        step = {"anywhere": count, "steps": self._target.step_bytes, "never": len(data) or 1}[self._target.split]
        return [data[at : at + step] for at in range(0, len(data), step)]

    @staticmethod
    def _end(parser: DeviceProtocol) -> list[Event]:
        """Silence, then the end of the link."""
        return [*(parser.idle() if parser.pending else ()), *parser.cut_off()]

    def _pieces(self, parser: DeviceProtocol, data: bytes) -> Iterator[Event]:
        for piece in self._cut(data, 1) if self._target.split == "steps" else [data]:
            yield from parser.receive(piece)

    def _explore(self, setup: Setup, parser: DeviceProtocol, tally: Tally, fed: deque[bytes]) -> None:
        for _ in range(20):
            data = self._mutator.next()
            fed.append(data)
            with _tracing() as ways:
                events = [*self._pieces(parser, data), *self._end(parser)]
            check(events, data, self._oracle, setup.options)
            tally.inputs += 1
            if not ways <= self._ways:
                self._ways |= ways
                if data and len(self._mutator.corpus) < CORPUS_LIMIT and len(data) <= 64 * self._target.step_bytes:
                    self._mutator.corpus.append(data)
        tally.ways = len(self._ways)


class Unsound(Exception):
    """A parser did what it must not do."""


def check(events: list[Event], data: bytes, oracle: Oracle | None, options: Mapping[str, Any]) -> None:
    """What was delivered must have been sent: whole, within its frame, and with the value that the frame says."""
    for event in events:
        if type(event) is Weight:
            if event.raw not in data:
                raise Unsound(f"a weight whose frame was not sent: {event}")
            if not _VALUE.fullmatch(event.value):
                raise Unsound(f"a weight that is no decimal: {event}")
            if oracle is not None:
                said = oracle.weight(event.raw, options)
                if said is None or (event.value, event.unit) not in said:
                    raise Unsound(f"{event.value} {event.unit}, where the frame says {said}: {event}")
        elif type(event) is Scan:
            if not event.text or any(character < " " and character != "\x1d" for character in event.text):
                raise Unsound(f"a code with nothing or with control characters in it: {event}")
        elif type(event) is Noise and not event.reason:
            raise Unsound(f"noise without a reason: {event}")


def _meant(events: list[Event]) -> list[Event]:
    """Without rubbish, which may come in other pieces."""
    return [event for event in events if type(event) is not Noise]


def kept_bytes(thing: Any, depth: int = 4) -> int:
    """Roughly what an object holds: the lengths of the buffers and collections below it."""
    if isinstance(thing, bytes | bytearray | str):
        return len(thing)
    if depth == 0:
        return 0
    if isinstance(thing, Mapping):
        return sum(8 + kept_bytes(value, depth - 1) for value in thing.values())
    if isinstance(thing, list | tuple | set | frozenset | deque):
        return sum(8 + kept_bytes(value, depth - 1) for value in thing)
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    held = [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name, None) for name in slots)]
    return sum(kept_bytes(value, depth - 1) for value in held)


@contextmanager
def _no_hang(hang_s: float) -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise Unsound(f"no end after {hang_s:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, hang_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _tracing() -> Iterator[set[tuple[Any, ...]]]:
    """Which line of ours followed which, while the block ran."""
    ways: set[tuple[Any, ...]] = set()
    last = 0

    def line(frame: FrameType, what: str, _argument: Any) -> Any:
        nonlocal last
        if what == "line":
            ways.add((frame.f_code, last, frame.f_lineno))
            last = frame.f_lineno
        return line

    def call(frame: FrameType, _what: str, _argument: Any) -> Any:
        path = frame.f_code.co_filename
        return line if any(part in path for part in _OURS) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield ways
    finally:
        sys.settrace(before)
