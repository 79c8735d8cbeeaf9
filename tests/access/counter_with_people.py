"""A counter with a real drawer's and scale's other end, whose gateway knows people: requests as lanes send them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from edge.access.at_lanes import AtLanes
from edge.access.audit import Audit
from edge.access.people import People
from edge.access.roles import Role
from edge.bus import topics
from edge.bus.message import Message
from edge.journal.clock import Clock
from edge.seal import Keyring, Seal
from edge.services.facts import Reporter
from edge.services.limits import LaneBudget
from edge.services.quarantine import Quarantine
from edge.services.replies import Replies
from edge.services.requests import Router
from edge.services.warnings import Warnings
from tests.access.people_rig import PASSWORDS, ROLE_OF
from tests.edge.devices_rig import Counter

LANES = frozenset({"lane-1", "lane-2"})
SALE = {"operator_id": "whoever", "receipt_number": "17"}
NO_SALE = {"operator_id": "whoever", "reason": "change for the bank"}


class Gateway:
    """`late_s` is added to the clock that nobody can set: how a test lets time go by."""

    def __init__(self, counter: Counter, overrides: Sequence[str]) -> None:
        self.counter = counter
        self.late_s = 0.0
        self.warnings = Warnings()
        self.audit = Audit(Reporter(counter.store, "s1"))
        self.clock = Clock(mono_ms=lambda: int(self.now_s() * 1000), boot=counter.clock.boot)
        self.people = People(
            counter.store, Seal(Keyring.new(), "people"), self.audit, self.clock, names=["s1"], now_s=self.now_s
        )
        self.at_lanes = AtLanes(self.people, self.audit, overrides, self.warnings)
        self.quarantine = Quarantine(counter.store)
        self.router = Router(
            counter.store, LANES, Replies(counter.publish), self.quarantine, LaneBudget(1_000, 1_000),
            message_bytes=65_536, in_flight=32, lets=lambda lane: True,
        )  # fmt: skip
        for part in (counter.claiming, counter.drawers, self.at_lanes):
            self.router.serve(part.operations())
        self.router.recover(counter.drawers.recoveries())
        self.router.guard(self.at_lanes.guards())
        self._ids = itertools.count(1)

    def now_s(self) -> float:
        return time.monotonic() + self.late_s

    async def add(self, *ids: str) -> None:
        """Add some of `PASSWORDS`."""
        for id_ in ids:
            await self.people.add("test", id_, id_.title(), ROLE_OF.get(id_[0], Role.CASHIER), PASSWORDS[id_])

    async def ask(
        self, operation: str, parameters: Any, *, lane: str = "lane-1", id_: str | None = None, **beside: Any
    ) -> dict[str, Any]:
        """The whole reply to one request; `beside` stands beside its id: session, grant, deadline_ms."""
        request_id = id_ or f"r-{next(self._ids)}"
        fields = {"id": request_id, "deadline_ms": 20_000, "parameters": parameters, **beside}
        return await self.send(operation, orjson.dumps(fields), lane)

    async def send(self, operation: str, payload: bytes, lane: str = "lane-1") -> dict[str, Any]:
        """The reply to these very bytes."""
        before = len(self.counter.published)
        self.router.on_message(Message(topics.lane_request(lane, operation), payload, 1, False, 1, None))
        async with asyncio.timeout(30):
            while True:
                for topic, reply, _ in self.counter.published[before:]:
                    if topic == topics.lane_replies(lane):
                        return dict(reply)
                await asyncio.sleep(0.005)

    async def code(self, operation: str, parameters: Any, **how: Any) -> str:
        """The problem's code, or "done"."""
        reply = await self.ask(operation, parameters, **how)
        return "done" if reply["ok"] else str(reply["problem"]["code"])

    async def log_in(self, id_: str, lane: str = "lane-1") -> str:
        """A session."""
        reply = await self.ask("person.log_in", {"person": id_, "password": PASSWORDS[id_]}, lane=lane)
        return str(reply["result"]["session"])

    async def approve(
        self, approver: str, session: str, parameters: Any, *, operation: str = "drawer.open", lane: str = "lane-1",
        password: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The reply to override.grant."""
        wish = {"operation": operation, "parameters": parameters, "person": approver}
        wish["password"] = password or PASSWORDS[approver]
        return await self.ask("override.grant", wish, lane=lane, session=session)

    async def audited(self, action: str) -> list[dict[str, Any]]:
        """What was recorded of this."""
        await self.counter.store.write([])
        return [fact for fact in await self.counter.facts("tillgate.audit.recorded.v1") if fact["action"] == action]


@contextlib.asynccontextmanager
async def gateway(folder: Path, *overrides: str) -> AsyncIterator[Gateway]:
    """A counter that runs, with olga (owner), sven and susi (supervisors), anna and bert (cashiers)."""
    async with Counter(folder) as counter:
        await counter.ready()
        one = Gateway(counter, overrides)
        await one.people.open()
        await one.add("olga", "sven", "susi", "anna", "bert")
        one.at_lanes.look()
        try:
            yield one
        finally:
            await one.router.stop()
            await one.people.close()
