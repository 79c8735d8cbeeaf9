"""What is fuzzed: every parser of the catalogue, in each set-up that a capture uses, with its frames as seeds, and
those that are in no catalogue (`readers`).

A parser is fed, told that the link ended, and fed again: so one input cannot lean on the one before, except by what a
parser is meant to remember (caps lock, what a printer has said). Fresh ones are made now and then all the same.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from drivers.capture import Capture, feed, load, new_protocol
from drivers.protocol import DeviceProtocol
from tests.fuzz.doors import DOORS
from tests.fuzz.enrolment import ENROLMENT
from tests.fuzz.mutation import Mutator
from tests.fuzz.readers import READERS

CAPTURES = Path(__file__).parent.parent / "captures"
_KEY_EVENT = struct.Struct("llHHi")


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to set a parser up: options, the real-time questions that a printer was asked, what an HID device is."""

    options: Mapping[str, Any]
    asked: tuple[tuple[int, ...], ...] = ()
    hid: Mapping[str, str] | None = None


@dataclass(slots=True)
class Target:
    """One parser. `seeds` are whole frames; `step_bytes` is the smallest piece that may arrive by itself."""

    kind: str
    setups: list[Setup] = field(default_factory=list)
    seeds: list[bytes] = field(default_factory=list)
    step_bytes: int = 1
    split: Literal["anywhere", "steps", "never"] = "anywhere"
    """Where an input may be split; in steps: it is always (reports of hidraw)."""
    build: Callable[[Setup], DeviceProtocol] | None = None
    """None: from the catalogue."""
    mutate: Callable[[int], Mutator] | None = None
    """Makes the inputs, from a seed; None: by changing bytes."""
    batch: int = 500
    """Inputs between two looks at the clock: fewer of what is slow."""
    quick: int = 3_000
    """Inputs that are enough for a test."""
    hang_s: float | None = None
    """How long a batch may take; None: as long as any parser."""

    def parser(self, setup: Setup) -> DeviceProtocol:
        """A fresh parser."""
        if self.build is not None:
            return self.build(setup)
        return new_protocol(self.kind, setup.options, setup.asked, setup.hid)


@cache
def targets() -> Mapping[str, Target]:
    """Every parser of which there is a capture (a test sees to it that these are all), by kind, and all readers."""
    found: dict[str, Target] = {}
    setups: dict[tuple[str, str], None] = {}
    for folder in sorted(path.parent for path in CAPTURES.glob("*/*/bytes.rx")):
        capture = load(folder)
        target = found.setdefault(capture.kind, Target(capture.kind))
        target.step_bytes = max(target.step_bytes, capture.step_bytes)
        target.split = "steps" if capture.reports else target.split
        setup = Setup(capture.options, tuple(numbers for _, numbers in capture.asked), capture.hid)
        named = (capture.kind, json.dumps([dict(capture.options), setup.asked, capture.hid], sort_keys=True))
        if named not in setups:
            setups[named] = None
            target.setups.append(setup)
        target.seeds += [seed for seed in frames(capture) if seed not in target.seeds]
    for name, (make, seeds) in (*READERS.items(), *ENROLMENT.items()):
        split: Literal["anywhere", "never"] = "anywhere" if name == "virtual-paper" else "never"
        found[name] = Target(name, [Setup({})], list(seeds), split=split, build=lambda _, make=make: make())
    for name, door in DOORS.items():
        found[name] = Target(
            name, [Setup({})], list(door.seeds), split="never", build=lambda _, make=door.make: make(),
            mutate=door.mutator, batch=door.batch, quick=door.quick, hang_s=door.hang_s,
        )  # fmt: skip
    return found


def frames(capture: Capture) -> list[bytes]:
    """The capture cut where an event was complete; of long frames only the end."""
    protocol = capture.protocol()
    pieces, begun = [], b""
    for step in capture.steps(smallest=True):
        begun += step if isinstance(step, bytes) else b""
        if feed(protocol, step):
            pieces.append(begun)
            begun = b""
    if begun:
        pieces.append(begun)
    limit_bytes = 64 * capture.step_bytes
    return [piece[-limit_bytes:] for piece in pieces]
