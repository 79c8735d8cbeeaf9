"""What is done to the store, and when: a list that depends on nothing but the seed, the kills and the time.

Strategy: each domain (kills, the network, the disk, acknowledgements, the clock) has a timeline of its own, in which
one fault follows the other with a pause between. Kinds come out of a shuffled bag, so each comes once before any comes
twice. The timelines overlap: a process is killed while the network is cut and the disk is full.

Time is compressed. A network that goes wrong a hundred times an hour does so every 36 s, for 1 s to two minutes; here
gaps and lengths are both divided by the same `flapping` factor. What is not compressed is the product: it still notices
a dead line after seconds, restarts and waits as it does in a store.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CUTS_PER_HOUR = 100
CUT_FROM_S, CUT_TO_S = 1.0, 120.0
TEN_YEARS_S = 10 * 365.25 * 24 * 3600

KILLS: tuple[tuple[str, ...], ...] = (
    ("edge",),
    ("bridge",),
    ("broker",),
    ("hq-1",),
    ("hq-2",),
    ("cloud",),
    ("postgres",),
    ("till",),
    ("edge", "edge:starting"),
    ("bridge", "broker"),
)
"""The bag of kills; `edge:starting` is a second kill of edge while it is starting."""

MORE_KILLS: tuple[tuple[str, ...], ...] = (
    ("edge", "bridge"),
    ("edge", "broker"),
    ("hq-1", "hq-2"),
    ("bridge", "cloud"),
    ("hq-1", "postgres"),
    ("bridge", "bridge:starting"),
    ("hq-2", "hq-2:starting"),
    ("broker", "broker:starting"),
)
"""Further ones, once there are enough kills for them."""

NETWORK = ("cut", "cut up", "cut down", "reset", "forget", "refuse", "thin", "far")
HQ_NETWORK = ("cut", "reset", "forget", "cut down", "refuse")
DISK = ("full", "io error")
ACKS = ("hold down", "drop down", "repeat down", "hold up", "drop up", "repeat up", "hold hq", "drop hq", "repeat hq")
CLOCK = ("ahead", "behind", "unsynced")
OFFICE = ("command", "prices", "command", "prices", "strange command")


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One thing to do, so many ms after the beginning: `domain` and `what`; `target` and `value` where it has them.

    kill     target: process; value: ms after its start (`starting`)
    network  what: as `Wan` has them; value: ms of round trip (far), kbit/s up (thin)
    hq line  the same between the cloud's broker and the receivers
    disk     full: value bytes left; io error; well again
    acks     hold, drop, repeat, release; target: down (to the bridge), up (its own), hq (receivers'); value: how many
    clock    jump: value s; unsynced, well again
    office   what people at HQ do meanwhile: command, strange command (for a device that is not there), prices
    """

    at_ms: int
    domain: str
    what: str
    target: str = ""
    value: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the log and the result."""
        return asdict(self)


def make(seed: int, kills: int, duration_s: float) -> list[Action]:
    """The plan: `kills` SIGKILLs within `duration_s`, and everything else around them, in order of time."""
    actions = [
        *_kills(random.Random(f"{seed} kills"), kills, duration_s),
        *_network(random.Random(f"{seed} network"), duration_s),
        *_hq_line(random.Random(f"{seed} hq line"), duration_s),
        *_disk(random.Random(f"{seed} disk"), duration_s),
        *_acks(random.Random(f"{seed} acks"), duration_s),
        *_clock(random.Random(f"{seed} clock"), duration_s),
        *_office(random.Random(f"{seed} office"), duration_s),
    ]
    return sorted(actions)


def flapping(duration_s: float) -> float:
    """By how much the network's time is compressed: enough that each kind of fault comes up."""
    return max(6.0, 45.0 * len(NETWORK) / duration_s)


def _bag(chance: random.Random, kinds: Sequence[Any]) -> Iterator[Any]:
    while True:
        yield from chance.sample(kinds, len(kinds))


def _kills(chance: random.Random, kills: int, duration_s: float) -> Iterator[Action]:
    left, groups = kills, []
    bag = _bag(chance, KILLS)
    for number in range(kills):
        group = next(bag) if number < len(KILLS) or chance.random() < 0.5 else chance.choice(MORE_KILLS)
        group = group[:left]
        groups.append(group)
        left -= len(group)
        if not left:
            break
    gap_ms = duration_s * 1_000 / len(groups)
    for number, group in enumerate(groups):
        at_ms = int(gap_ms * (number + chance.uniform(0.1, 0.9)))
        for name in group:
            target, _, when = name.partition(":")
            if when:
                yield Action(at_ms + 1, "kill", "starting", target, int(chance.uniform(0, 1_500)))
            else:
                yield Action(at_ms, "kill", "running", target)


def _spans(chance: random.Random, kinds: Sequence[str], duration_s: float, every_s: float) -> Iterator[tuple[str, int]]:
    """(kind, start in ms), about one every `every_s`, and at least every kind once."""
    every_s = min(every_s, duration_s / (len(kinds) + 0.5))
    bag, start_s = _bag(chance, kinds), every_s * chance.uniform(0.2, 0.6)
    while start_s < duration_s:
        yield next(bag), int(start_s * 1_000)
        start_s += every_s * chance.uniform(0.7, 1.2)


def _network(chance: random.Random, duration_s: float) -> Iterator[Action]:
    factor = flapping(duration_s)
    every_s = 3_600 / CUTS_PER_HOUR / factor
    # Short and long ones in turn, evenly spread over the orders of magnitude.
    kinds, lengths = _bag(chance, NETWORK), _bag(chance, range(len(NETWORK)))
    at_s = every_s * chance.uniform(0.1, 0.5)
    while at_s < duration_s:
        kind, share = next(kinds), (next(lengths) + chance.random()) / len(NETWORK)
        until_s = at_s + CUT_FROM_S * (CUT_TO_S / CUT_FROM_S) ** share / factor
        name, _, direction = kind.partition(" ")
        value = {"thin": chance.choice((32, 64, 256)), "far": chance.choice((50, 200, 600))}.get(name, 0)
        yield Action(int(at_s * 1_000), "network", name, direction or ("both" if name == "cut" else ""), value)
        if name not in ("reset", "forget"):
            yield Action(int(until_s * 1_000), "network", "restore")
        at_s = until_s + every_s * chance.uniform(0.1, 0.5)


def _hq_line(chance: random.Random, duration_s: float) -> Iterator[Action]:
    for kind, at_ms in _spans(chance, HQ_NETWORK, duration_s, 20.0):
        name, _, direction = kind.partition(" ")
        yield Action(at_ms, "hq line", name, direction or ("both" if name == "cut" else ""))
        if name not in ("reset", "forget"):
            yield Action(at_ms + int(chance.uniform(200, min(15_000, duration_s * 100))), "hq line", "restore")


def _disk(chance: random.Random, duration_s: float) -> Iterator[Action]:
    for kind, at_ms in _spans(chance, DISK, duration_s, 45.0):
        if kind == "full":
            yield Action(at_ms, "disk", "full", value=chance.choice((0, 20_000, 1_200_000)))
            yield Action(at_ms + int(chance.uniform(1_000, 5_000)), "disk", "well again")
        else:
            yield Action(at_ms, "disk", "io error")
            yield Action(at_ms + int(chance.uniform(200, 1_500)), "disk", "well again")


def _acks(chance: random.Random, duration_s: float) -> Iterator[Action]:
    for kind, at_ms in _spans(chance, ACKS, duration_s, 10.0):
        what, direction = kind.split()
        if what == "hold":
            yield Action(at_ms, "acks", what, direction)
            yield Action(at_ms + int(chance.uniform(300, 4_000)), "acks", "release", direction)
        else:
            yield Action(at_ms, "acks", what, direction, chance.randint(1, 5))


def _clock(chance: random.Random, duration_s: float) -> Iterator[Action]:
    for kind, at_ms in _spans(chance, CLOCK, duration_s, 20.0):
        until_ms = at_ms + int(chance.uniform(500, 5_000))
        if kind == "unsynced":
            yield Action(at_ms, "clock", kind)
        else:
            sign = 1 if kind == "ahead" else -1
            yield Action(at_ms, "clock", "jump", value=sign * int(TEN_YEARS_S * chance.uniform(0.9, 1.0)))
        yield Action(until_ms, "clock", "well again")


def _office(chance: random.Random, duration_s: float) -> Iterator[Action]:
    for kind, at_ms in _spans(chance, OFFICE, duration_s, 12.0):
        yield Action(at_ms, "office", kind)
