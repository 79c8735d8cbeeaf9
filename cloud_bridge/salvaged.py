"""What a damaged journal still held goes to HQ: under its own epoch and numbers, one batch at a time.

Strategy: those facts were accepted, so HQ is to have them; most of them it may have. Sent as what they are, nothing can
count twice: HQ knows them by (store, epoch, class, seq). They are not worth holding anything up, so one small batch is
on its way at a time, beside all that the uplink sends, and only while the line's budget has something left; the next
follows on HQ's confirmation. HQ's contiguous sequence passes the facts that were lost once it has `JournalDamaged`,
which is an ordinary fact of the new epoch; until then a batch behind a hole is sent again now and then. So is one that
HQ cannot take because another gateway writes the same journal. Neither holds up another class or epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from pydantic import ValidationError

from cloud_bridge import policy
from cloud_bridge.cursors import Cursors
from cloud_bridge.outbox import Outbox
from cloud_bridge.packer import WHY_TOO_LARGE, Packer, single
from cloud_bridge.tail import JournalAway, Tail
from cloud_bridge.uplink import WHY_REJECTED, Publish
from edge.bus import topics
from edge.bus.client import BusError, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from edge.journal.reader import Link
from edge.supervisor import Pauses

log = logging.getLogger(__name__)

BATCH_BYTES = 16 * 1024
BATCH_FACTS = 500
SINGLES = 8
"""With ``wire = "single"``: so many messages at a time."""

OVERHEAD_BYTES = 64
"""Of a PUBLISH besides topic and payload."""
LOOK_EVERY_S = 30.0
"""How often it is looked whether there is a damaged journal: edge sets one aside only when it starts."""

AGAIN = Pauses(first_s=policy.CONFIRM_WITHIN_S, longest_s=300.0)
"""Before a batch that HQ has not confirmed is sent again."""


@dataclass(frozen=True, slots=True)
class _InVain:
    """What follows `after` of a class was sent so many `times`, and not confirmed. Monotonic seconds."""

    after: int
    times: int
    again_at: float


class Salvaged:
    """Sends the earlier epochs of one store's journal. `outbox` is the uplink's, for what the line bears."""

    def __init__(
        self, *, store: str, tail: Tail, cursors: Cursors, outbox: Outbox, publish: Publish, confirm: str, wire: str
    ) -> None:
        self.waits = False
        """For the line: it is down, full, or its budget is spent."""
        self._store = store
        self._tail = tail
        self._cursors = cursors
        self._outbox = outbox
        self._publish = publish
        self._by_broker = confirm == "broker"
        self._single = wire == "single"
        self._most = SINGLES if self._single else BATCH_FACTS
        self._packer = Packer(store)
        self._confirmed: dict[str, dict[FactClass, int]] = {}
        self._rejected: dict[str, Mapping[FactClass, list[int]]] = {}
        self._unconfirmed: dict[tuple[str, FactClass], _InVain] = {}
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._online = False
        self._moved = asyncio.Event()

    # -- what the daemon tells -----------------------------------------------------------------------------------------

    def on_connected(self) -> None:
        """The cloud broker has let us in."""
        self._online = True
        self._moved.set()

    def on_lost(self) -> None:
        """The link is gone."""
        self._online = False

    def hears(self, message: Message) -> bool:
        """Take HQ's confirmation if it is of an earlier epoch; False when it is for the uplink."""
        try:
            told = Confirmed.model_validate_json(message.payload)
        except ValidationError:
            return False
        mine = self._confirmed.get(told.epoch)
        if mine is None:
            return False
        message.ack()
        if any(told.rejected.values()):
            self._rejected[told.epoch] = told.rejected
        self._confirm(mine, told.confirmed)
        return True

    # -- sending -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Send what HQ has not, until cancelled."""
        while True:
            epochs: list[str] = []
            with contextlib.suppress(JournalAway):
                epochs = await self._tail.salvaged_epochs()
            for epoch in epochs:
                if epoch not in self._done:
                    # One whose key is missing waits; the others do not wait for it.
                    with contextlib.suppress(JournalAway):
                        await self._send_epoch(epoch)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _send_epoch(self, epoch: str) -> None:
        """Send what HQ has not of it, as far as HQ confirms it; `_done` when that is all."""
        if epoch not in self._confirmed:
            self._confirmed[epoch] = await self._cursors.confirmed(epoch)
        through = [await self._send_class(epoch, fact_class) for fact_class in FactClass]
        for fact_class, seqs in self._rejected.pop(epoch, {}).items():
            await self._cursors.park(epoch, fact_class, seqs, WHY_REJECTED)
        if all(through):
            self._done.add(epoch)
            if epoch in self._begun:
                log.info("HQ has all that could be read of epoch %s", epoch)

    async def _send_class(self, epoch: str, fact_class: FactClass) -> bool:
        """Whether HQ has all of it; False when it does not confirm a batch: another time."""
        confirmed, chain = self._confirmed[epoch], (epoch, fact_class)
        while True:
            after = confirmed.get(fact_class, 0)
            links = await self._tail.salvaged(epoch, fact_class, after, self._most, 8 * BATCH_BYTES)
            if not links:
                self._unconfirmed.pop(chain, None)
                return True
            before = self._unconfirmed.get(chain)
            if before is not None and before.after == after and self._now() < before.again_at:
                return False
            await self._may_send()
            if epoch not in self._begun:
                self._begun.add(epoch)
                log.warning("sending HQ what it has not of epoch %s, whose journal was damaged", epoch)
            last = await self._send(epoch, fact_class, links)
            if not await self._until_confirmed(confirmed, fact_class, last):
                times = before.times + 1 if before is not None and before.after == after else 1
                self._unconfirmed[chain] = _InVain(after, times, self._now() + AGAIN.before(times))
                return False
            await self._cursors.save_confirmed(epoch, confirmed)

    async def _may_send(self) -> None:
        """Wait for a line that has something left for this."""
        while True:
            self._moved.clear()
            budget, now = self._outbox.budget, self._now()
            wait_s = max(budget.wait_s(now), budget.metered_wait_s(now))
            if self._online and self._outbox.room > 0 and wait_s <= 0:
                self.waits = False
                return
            self.waits = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.5, min(wait_s, 60.0))):
                    await self._moved.wait()

    async def _send(self, epoch: str, fact_class: FactClass, links: list[Link]) -> int:
        """Send the first of `links`; returns the sequence up to which."""
        topic = topics.up(self._store, fact_class.value)
        limit = self._outbox.packet_bytes - len(topic) - OVERHEAD_BYTES
        prev = await self._tail.salvaged_hash(epoch, fact_class, links[0][0] - 1)
        keys = await self._tail.keys(fact_class, links)
        limit = min(limit, 2 * BATCH_BYTES)
        packed = self._packer.pack(
            fact_class, epoch, links, prev, aim_bytes=BATCH_BYTES, limit_bytes=limit, thin=True, keys=keys
        )
        if packed.omitted:
            await self._cursors.park(epoch, fact_class, [packed.first], WHY_TOO_LARGE)
        payloads = [packed.payload]
        if self._single:
            payloads = [single(body, keys) for seq, body, _ in links if seq <= packed.last]
        mine, waiting = self._confirmed[epoch], len(payloads)

        def taken(error: BusError | None) -> None:
            nonlocal waiting
            waiting -= error is None
            if self._by_broker and not waiting:
                self._confirm(mine, {fact_class: packed.last})

        for payload in payloads:
            self._outbox.budget.spend(len(payload), self._now(), metered=True)
            self._publish(topic, payload, expiry_s=policy.BROKER_KEEPS_S, resend=False, on_done=taken)
        return packed.last

    async def _until_confirmed(self, confirmed: Mapping[FactClass, int], fact_class: FactClass, last: int) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(policy.CONFIRM_WITHIN_S):
                while confirmed.get(fact_class, 0) < last:
                    self._moved.clear()
                    await self._moved.wait()
                return True
        return False

    def _confirm(self, mine: dict[FactClass, int], told: Mapping[FactClass, int]) -> None:
        for fact_class, seq in told.items():
            mine[fact_class] = max(seq, mine.get(fact_class, 0))
        self._moved.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
