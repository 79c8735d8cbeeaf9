"""What a hostile till says on the bus: facts, requests of every operation, presence; a real store behind it.

An input is what the broker sends to the gateway: PUBLISH packets, as far as its rules let a till write there. All
of edge that serves lanes and needs no network stands behind it; the devices of the counter are not plugged in. Not
here, as no till reaches it: the technician's desk and the bridge, which the broker serves on its unix socket alone.

Each message is acknowledged exactly once, and answered exactly once, where only its own lane hears it (messages that
carry the id of one before are answered at least once in all). Nothing is answered `faulted`. No password and no card
number is in what is kept.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter as Counting
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from edge.access.at_lanes import AtLanes
from edge.access.audit import Audit
from edge.access.people import People
from edge.access.roles import Role
from edge.access.strangers import Strangers
from edge.bus.message import Message
from edge.bus.messages.facts import FactClass
from edge.bus.packets import PUBLISH, Framer, Malformed, decode_properties, decode_publish
from edge.journal.reader import Reader
from edge.seal import Seal
from edge.services.facts import FactIntake, Reporter
from edge.services.from_hq import Believed
from edge.services.limits import LaneBudget
from edge.services.presence import Presences
from edge.services.prices import Prices
from edge.services.quarantine import KEPT_IN_A_WHILE, ORIGINS, Quarantine
from edge.services.replies import Replies
from edge.services.requests import Router
from edge.services.warnings import Warnings
from tests.edge.devices_rig import Counter
from tests.fuzz import mqtt
from tests.fuzz.door import Door, Way, World
from tests.fuzz.mqtt import publish
from tests.fuzz.readers import Contradiction, Refused
from tests.fuzz.structure import CARD, PASSWORD, SECRET_FIELDS, Structured, told, twisted, written

LANES = ("lane-1", "lane-2")
STRANGE_LANE = "lane-9"
"""It has a certificate, and the store does not know it any more."""
WITHIN_S = 20.0
MESSAGE_BYTES = 65_536
LOOK_EVERY = 40
"""So many settlings between two looks at what is kept."""
_MAY_WRITE = re.compile(r"tg/v1/lanes/([^/+#\0]+)/(facts|presence|requests/[^/+#\0]*)")
GOLDEN = Path(__file__).parent.parent / "edge" / "golden"
_TABLE = re.compile(r"^\| `([a-z_]+)`(?:, `([a-z_]+)`)? \|", re.MULTILINE)


def documented_codes() -> frozenset[str]:
    """The problem codes that docs/till.md promises."""
    text = (Path(__file__).parent.parent.parent / "docs" / "till.md").read_text()
    table = text[text.index("| `bad_message`") :]
    return frozenset(name for pair in _TABLE.findall(table[: table.index("\n\n")]) for name in pair if name)


class Counted(Message):
    """A message that knows how often it was acknowledged."""

    acks = 0

    def ack(self) -> None:
        """Count it."""
        self.acks += 1
        super().ack()


class Unplugged(Counter):
    """The counter whose devices are all configured and none is there; what it says goes where edge sends it."""

    def __init__(self, folder: Path, said: list[tuple[str, bytes]]) -> None:
        super().__init__(folder, serial_printer=True)
        self._said = said
        self.kept: Quarantine | None = None

    def publish(self, topic: str, payload: bytes, **_: Any) -> None:
        """As `Client.publish_soon`."""
        self._said.append((topic, payload))

    def quarantine(self, *what: Any) -> None:
        """As edge has it."""
        if self.kept is not None:
            self.kept.keep(*what)


class Lanes(World):
    """Edge as tills see it."""

    name = "lanes"

    async def open(self) -> None:
        """Compose it as edge's daemon does."""
        self._said: list[tuple[str, bytes]] = []
        self._taken: list[Counted] = []
        self._codes = documented_codes()
        self._settled = self._in_all = 0
        self.counter = counter = Unplugged(self.folder, self._said)
        await counter.start()
        store, publish = counter.store, counter.publish
        report, warnings = Reporter(store, "s1"), Warnings()
        self._audit = Audit(report)
        self._quarantine = counter.kept = Quarantine(store)
        replies, budget = Replies(publish), LaneBudget(10**9, 10**9)
        lanes = frozenset(LANES)
        self._intake = FactIntake(
            store, "s1", lanes, replies, self._quarantine, budget, message_bytes=MESSAGE_BYTES, lets=lanes.__contains__
        )  # fmt: skip
        self._router = Router(
            store, lanes, replies, self._quarantine, budget, message_bytes=MESSAGE_BYTES, in_flight=64,
            lets=lanes.__contains__,
        )  # fmt: skip
        self._presences = Presences(publish, self._quarantine)
        self._presences.watchers += [counter.leases.present, counter.watching.presence]
        self.people = People(store, Seal(store.keyring, "people"), self._audit, counter.clock, names=["s1"])
        await self.people.open()
        await self.people.add("test", "sven", "Sven", Role.SUPERVISOR, "green Thursday")
        at_lanes = AtLanes(self.people, self._audit, ["drawer_without_sale"], warnings)
        prices = Prices(store, ZoneInfo("Europe/Berlin"), Believed((), "s1", ()), publish, report)
        await prices.load()
        strangers = Strangers(
            own=list, port=8883, authorities=frozenset, trusted=self.folder / "none", server_name="x", report=report,
            audit=self._audit, warnings=warnings,
        )  # fmt: skip
        for part in (
            counter.claiming, counter.scans, counter.weighing, counter.watching, counter.printing, counter.drawers,
            counter.displays, prices, at_lanes, strangers,
        ):  # fmt: skip
            self._router.serve(part.operations())
        self._router.guard(at_lanes.guards())
        for keeps in (counter.printing, counter.drawers):
            self._router.recover(keeps.recoveries())

    def feed(self, data: bytes) -> str:
        """Let the gateway read what the broker sends it."""
        try:
            packets = Framer(1_048_576).feed(data)
            messages = [self._message(header, body) for header, body in packets if header & 0xF0 == PUBLISH]
        except Malformed as malformed:
            raise Refused(str(malformed)) from None
        passed = [one for one in messages if one is not None]
        if not passed:
            raise Refused("the broker lets no till send this")
        for message, where in passed:
            self._taken.append(message)
            take = {"facts": self._intake.on_message, "presence": self._presences.on_message}.get(where)
            (take or self._router.on_message)(message)
        self._in_all += len(passed)
        return passed[-1][1]

    @staticmethod
    def _message(header: int, body: bytes) -> tuple[Counted, str] | None:
        topic, payload, qos, retain, number, packed = decode_publish(header, body, 5)
        found = _MAY_WRITE.fullmatch(topic.decode("utf-8", "replace"))
        if found is None or found[1] not in (*LANES, STRANGE_LANE) or len(payload) > 2 * MESSAGE_BYTES:
            return None
        message = Counted(found[0], payload, qos, retain, number, None, *decode_properties(packed))
        return message, found[2]

    async def settle(self, *, alone: bool) -> None:
        """All is answered."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self.counter.store.write([])  # what may wait for a commit does not wait longer
                while self._router.busy or not all(one.acks for one in self._taken):
                    await asyncio.sleep(0.001)
        except TimeoutError:
            open_ = [(one.topic, one.payload[:2_000]) for one in self._taken if not one.acks]
            raise Contradiction(f"not acknowledged after {WITHIN_S:g} s: {open_}") from None
        twice = [one.topic for one in self._taken if one.acks != 1]
        if twice:
            raise Contradiction(f"acknowledged more than once: {twice}")
        self._judge()
        self._taken.clear()
        self._said.clear()
        if len(self._quarantine._recent) > 2 * ORIGINS or len(self._router._running):
            raise Contradiction("it remembers more than it should")
        self._settled += 1
        if alone or self._settled % LOOK_EVERY == 1:
            await self._look()

    def _judge(self) -> None:
        """Every answer, and who hears it."""
        asked, again = Counting[str](), Counting[str]()
        known = set[tuple[str, Any]]()
        for message in self._taken:
            lane, what = message.topic.split("/")[3:5]
            if what == "presence" or lane not in LANES:
                continue
            asked[lane] += 1
            key = (lane, _id_of(message.payload))
            again[lane] += what == "requests" and key in known
            known.add(key)
        answered = Counting[str]()
        for topic, payload in self._said:
            parts = topic.split("/")
            if parts[2:3] != ["lanes"] or parts[4:5] in (["presence"], ["weights"], ["scans"]):
                continue
            reply = json.loads(payload)
            if set(reply) - {"to", "ok", "result", "problem"} or reply["ok"] is not ("result" in reply):
                raise Contradiction(f"no reply: {reply}")
            problem = reply.get("problem")
            if problem is not None and (problem["code"] not in self._codes or problem["code"] == "faulted"):
                raise Contradiction(f"answered with {problem}")
            if _leaks(payload):
                raise Contradiction(f"a secret in an answer: {reply}")
            answered[parts[3]] += 1
        for lane in {*asked, *answered}:
            if not asked[lane] - again[lane] <= answered[lane] <= asked[lane]:
                raise Contradiction(f"lane {lane}: {answered[lane]} answers to {asked[lane]} messages")

    async def _look(self) -> None:
        """Nothing secret is kept, and what is kept of bad input is bounded."""
        store = self.counter.store
        await store.write([])
        reader = await Reader.open(store.path)
        try:
            kept = list[bytes]()
            for row in await reader.quarantine(500):
                kept += [row.payload, row.reason.encode(), row.origin.encode()]
            for of in FactClass:
                head = (await reader.heads()).get(of, 0)
                kept += [fact.body for fact in await reader.tail(of, max(0, head - 500), 500)]
        finally:
            await reader.close()
        if found := [one for one in kept if _leaks(one)]:
            raise Contradiction(f"a secret is kept in {found[0][:3_000]!r}")
        if len(self._quarantine._recent) > ORIGINS + KEPT_IN_A_WHILE:
            raise Contradiction("it remembers too many origins")

    @property
    def worn(self) -> bool:
        """A journal of so many facts."""
        return self._in_all > 20_000

    async def close(self) -> None:
        """End edge."""
        await self._router.stop()
        self._audit.tell()
        await self.people.close()
        await self.counter.stop()


def _leaks(text: bytes) -> bool:
    """Whether a card's number is in it, or a password where that can be told for one: its name stands there."""
    return _CARD.search(text) is not None or (PASSWORD.encode() in text and _NAMED.search(text) is not None)


_CARD = re.compile(rf"(?<![0-9A-Za-z.]){CARD}(?![0-9A-Za-z])".encode())
"""Alone: in the midst of other digits, or of an identifier, it is no card's number."""
_NAMED = re.compile(rf"(?<![a-z])({'|'.join(SECRET_FIELDS)})(?![a-z])".encode(), re.IGNORECASE)


def _id_of(payload: bytes) -> str | None:
    """The id as another reader of JSON has it."""
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return found.get("id") if isinstance(found, dict) and isinstance(found.get("id"), str) else None


# -- inputs ------------------------------------------------------------------------------------------------------------


def _golden(prefix: str) -> dict[str, Any]:
    return {
        path.name.removeprefix(prefix).removesuffix(".json"): json.loads(path.read_text())
        for path in sorted(GOLDEN.glob(f"{prefix}*.json"))
    }


FACTS = {f"tillgate.{name}": data for name, data in _golden("tillgate.").items()}
REQUESTS = {name: parameters for name, parameters in _golden("request.").items() if name != "json"}
REQUESTS["person.log_in"] = {"person": "sven", "password": PASSWORD}
REQUESTS["override.grant"]["password"] = PASSWORD
PRESENCE = json.loads((GOLDEN / "presence.json").read_text())


def fact(random: Random) -> bytes:
    """A fact of a till, or what it takes for one."""
    lane = random.choice((*LANES, *LANES, STRANGE_LANE))
    type_ = random.choice(list(FACTS))
    number = random.randrange(1, 50_000) if random.random() < 0.95 else 2**53
    event: Any = {
        "specversion": "1.0", "id": f"f-{random.getrandbits(40):x}", "source": f"/stores/s1/lanes/{lane}",
        "type": type_, "time": "2026-05-04T09:30:00.000Z", "datacontenttype": "application/json",
        "sequence": f"{number:010d}", "data": FACTS[type_],
    }  # fmt: skip
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        event = twisted(event, random)
    return _sent(f"tg/v1/lanes/{lane}/facts", written(event, random), lane, random)


def request(random: Random) -> bytes:
    """A request, of whichever operation."""
    lane = random.choice((*LANES, *LANES, *LANES, STRANGE_LANE))
    name = random.choice(list(REQUESTS))
    if name in ("person.log_in", "override.grant") and random.random() < 0.8:
        name = "print"  # a password takes its time on purpose
    asked: Any = {
        "id": f"r-{random.getrandbits(random.choice((4, 40))):x}", "deadline_ms": random.choice((1, 100, 2_000)),
        "parameters": REQUESTS[name],
    }  # fmt: skip
    if random.random() < 0.2:
        asked["session" if random.random() < 0.5 else "grant"] = PASSWORD
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        asked = twisted(asked, random)
    if name not in ("person.log_in", "override.grant"):
        asked = told(asked)
    if random.random() < 0.03:
        name = random.choice(("", "a" * 300, "person.log_im", "print ", "\ufeffprint", "help\n", CARD))
    return _sent(f"tg/v1/lanes/{lane}/requests/{name}", written(asked, random), lane, random)


def presence(random: Random) -> bytes:
    """Who says to be there."""
    lane = random.choice((*LANES, STRANGE_LANE))
    said = PRESENCE
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        said = twisted(said, random)
    return _sent(f"tg/v1/lanes/{lane}/presence", written(said, random), lane, random)


def _sent(topic: str, payload: bytes, lane: str, random: Random) -> bytes:
    other = LANES[lane == LANES[0]]
    return publish(
        topic, payload, qos=random.choice((1, 1, 1, 0)), retain=random.random() < 0.1,
        properties=mqtt.properties(random, lane, other),
    )  # fmt: skip


def _seeds(make: Any, count: int = 60) -> list[bytes]:
    random = Random(5)
    return [make(random) for _ in range(count)]


def _way(make: Any) -> Way:
    seeds = _seeds(make)
    return Way(lambda: Door(Lanes), seeds, lambda seed: Structured(seeds, seed, make), batch=64, quick=640)


LANE_MESSAGES = {"lane-facts": _way(fact), "lane-requests": _way(request), "lane-presence": _way(presence)}
"""By name: as `doors.DOORS`."""
