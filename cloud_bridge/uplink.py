"""Journal to HQ: reads the tail, packs batches, sends them, and moves on as HQ confirms.

Strategy: `Outbox` decides what leaves next; this module does it. One task; it sleeps until something happens: the
journal has grown, the broker has acknowledged, HQ has confirmed, the link has come or gone, or a wait has ended. A
batch is read and packed in threads: as much as the broker takes and the line carries in a moment. A bulk batch has a
task to itself meanwhile, one at a time, so that a critical fact leaves before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn, Protocol

import orjson
from pydantic import ValidationError

from cloud_bridge import policy
from cloud_bridge.cursors import Cursors
from cloud_bridge.flow import LEAST_BATCH_BYTES
from cloud_bridge.hindrance import Hindrance
from cloud_bridge.outbox import Flight, Outbox, Track
from cloud_bridge.packer import WHY_TOO_LARGE, Packer, single
from cloud_bridge.tail import JournalAway, Tail
from edge.bus import topics
from edge.bus.client import BusError, Disconnected, Message
from edge.bus.messages.facts import FactClass, first_error
from edge.bus.messages.links import Confirmed, JournalHeads
from edge.journal.reader import Row
from edge.supervisor import Background

log = logging.getLogger(__name__)

SAFETY_S = 30.0
"""How often the journal is looked at although nobody said that it had grown."""

LOOK_AGAIN_S = 1.0
"""Pause between two looks at a journal that could not be read."""

SAVE_EVERY_S = 5.0
"""HQ tells what it has whenever it is asked; cards wear."""

WHY_REJECTED = "rejected by HQ"
PACKET_OVERHEAD_BYTES = 64
"""Of a PUBLISH besides topic and payload: fixed header, packet id, expiry."""


_Place = tuple[str, FactClass, int]
"""Epoch, class, sequence."""


class Publish(Protocol):
    """`edge.bus.client.Client.publish_soon`, as far as it is used here."""

    def __call__(
        self,
        topic: str,
        payload: bytes,
        *,
        expiry_s: int | None,
        on_done: Callable[[BusError | None], None],
        resend: bool,
    ) -> None: ...


class Uplink:
    """Sends one store's journal. `on_change` is called when status should be told anew; `ask` asks HQ what it has;
    `give_up` drops a connection that stands and is of no use, and says why.
    """

    def __init__(
        self,
        *,
        store: str,
        tail: Tail,
        cursors: Cursors,
        outbox: Outbox,
        publish: Publish,
        ask: Callable[[], None],
        on_change: Callable[[], None],
        give_up: Callable[[str], None] = lambda _: None,
        wire: str = "batch",
    ) -> None:
        self.outbox = outbox
        self.epoch = ""
        self.hindrance = Hindrance(outbox)
        self._store = store
        self._tail = tail
        self._cursors = cursors
        self._publish = publish
        self._ask = ask
        self._on_change = on_change
        self._give_up = give_up
        self._single = wire == "single"
        self._packer, self._critical_packer = Packer(store), Packer(store)
        self._packing: asyncio.Task[None] | None = None
        """The bulk batch that is being made ready."""
        self._connected = False
        self._wake = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._readable = False
        self._look_at = self._looked_at = 0.0
        self._parked: set[_Place] = set()
        self._parking = Background(sqlite3.Error)
        self._said = ""
        self._doubts: dict[FactClass, tuple[int, str]] = {}
        """What HQ says it has of our epoch, and its hash, where that is still to be compared with the journal."""

    # -- what the daemon tells -----------------------------------------------------------------------------------------

    def on_heads(self, message: Message) -> None:
        """Edge says how far the journal goes."""
        try:
            heads = JournalHeads.model_validate_json(message.payload)
        except ValidationError as error:
            log.error("the journal's heads cannot be read: %s", first_error(error))
        else:
            if heads.epoch != self.epoch or not self._readable:
                self._look_at = min(self._look_at, self._looked_at + LOOK_AGAIN_S)
                self._wake.set()
            elif self.outbox.see_heads(heads.heads, self._now()):
                self._wake.set()
                self._on_change()
        message.ack()

    def on_connected(self, receive_maximum: int, max_packet_bytes: int | None) -> None:
        """The cloud broker has let us in, with these limits of its own."""
        self.outbox.narrow(receive_maximum, max_packet_bytes)
        self.outbox.connected(self._now())
        self._connected = True
        self._wake.set()

    def on_lost(self, reason: Disconnected) -> None:
        """The link is gone. What the broker had not taken is sent from the journal again."""
        self._connected = False
        self.hindrance.lost(reason, self._now())
        self._say()

    def on_confirmed(self, message: Message) -> None:
        """HQ says what is in its database."""
        try:
            told = Confirmed.model_validate_json(message.payload)
        except ValidationError as error:
            log.error("a confirmation from HQ cannot be read: %s", first_error(error))
            message.ack()
            return
        message.ack()
        if told.epoch == self.epoch:
            ours = {}
            for fact_class, seq in told.confirmed.items():
                digest = told.hashes.get(fact_class, "")
                if self.outbox.knows(fact_class, seq, digest):
                    ours[fact_class] = seq
                else:
                    self._doubts[fact_class] = seq, digest
            if self.outbox.confirm(ours, self._now()):
                self.hindrance.moved(self._now())
                self._unsaved.set()
                self._on_change()
            elif not any(self.outbox.backlog().values()) and self.hindrance.moved(self._now()):
                self._on_change()
            if any(told.rejected.values()):
                self._park_soon(told.rejected)
        # An HQ that speaks of another epoch has nothing of this one.
        spoken_of = told.confirmed if told.epoch == self.epoch else FactClass
        if lost := self.outbox.lost(spoken_of, self._now()):
            log.warning("HQ answers but has not got all of %s; sending that again", ", ".join(lost))
            self.outbox.rewind(lost)
        self.outbox.first_word()
        self._wake.set()

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Send until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    pause = await self._step()
                except JournalAway as error:
                    log.warning("the journal is away: %s", error)
                    self._readable = False
                    pause = self._look_at - self._now()
                if pause > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._wake.wait()
        finally:
            packing, self._packing = self._packing, None
            if packing is not None:
                packing.cancel()

    async def save(self) -> NoReturn:
        """Write confirmed cursors behind."""
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            await self.save_now()
            await asyncio.sleep(SAVE_EVERY_S)

    async def save_now(self) -> None:
        """Write the confirmed cursors, and what is left of the hour's budget."""
        if self.epoch:
            left = self.outbox.budget.levels(self._now())
            await self._cursors.save_confirmed(self.epoch, self.outbox.confirmed, left)

    async def _step(self) -> float:
        """Do one thing; returns how long to sleep unless woken, 0 when there may be more to do."""
        if self._packing is not None and self._packing.done():
            packed, self._packing = self._packing, None
            packed.result()
        now = self._now()
        if now >= self._look_at:
            await self._look()
            now = self._now()
        if self._doubts:
            await self._compare()
        pause = self._look_at - now
        if not self._readable or not self._connected:
            return pause
        if late := self.outbox.silent(now):
            log.warning("HQ has confirmed nothing of %s for too long; sending again what it has not", ", ".join(late))
            self.hindrance.silent(late, now)
            self.outbox.rewind(late)
            self._ask()
            self._on_change()
        if self.outbox.ask_in_s(now) == 0.0:
            self.outbox.asked(now)
            self._ask()
        for wait in (self.outbox.silent_in_s(now), self.outbox.ask_in_s(now)):
            pause = pause if wait is None else min(pause, wait + 0.01)
        if (deaf_in := self.outbox.deaf_in_s(now)) is not None:
            if deaf_in <= 0:
                self.outbox.deaf()
                self.hindrance.deaf()
                self._on_change()
                self._connected = False
                self._give_up(self.hindrance.stuck)
                return pause
            pause = min(pause, deaf_in + 0.01)
        if now < self.hindrance.hold_until:
            return min(pause, self.hindrance.hold_until - now)
        choice = self.outbox.choose(now, packing=self._packing is not None)
        if isinstance(choice, FactClass):
            if self._single:
                await self._send_single(choice)
            elif choice is FactClass.CRITICAL:
                await self._send_batch(choice)
            else:
                self._packing = asyncio.get_running_loop().create_task(self._send_batch(choice), name="pack")
                self._packing.add_done_callback(lambda _: self._wake.set())
            return 0.0
        return pause if choice is None else min(pause, choice)

    async def _look(self) -> None:
        """Read epoch and heads from the journal itself."""
        self._looked_at = self._now()
        self._look_at = self._looked_at + SAFETY_S
        epoch, heads = await self._tail.epoch(), await self._tail.heads()
        while (now_epoch := await self._tail.epoch()) != epoch:  # edge has put another file in its place in between
            epoch, heads = now_epoch, await self._tail.heads()
        self._readable = True
        if epoch != self.epoch:
            confirmed = await self._cursors.confirmed(epoch)
            self.hindrance.forget_strangers()
            self._doubts.clear()
            for fact_class, seq in list(confirmed.items()):
                if seq > heads.get(fact_class, 0):
                    del confirmed[fact_class]
                    await self._cursors.forget(epoch, fact_class)
                    self.hindrance.strange(fact_class, seq)
            self.outbox.start(confirmed)
            self.epoch = epoch
            if self._connected:  # what HQ said before was not of this epoch
                self.outbox.connected(self._now())
                self._ask()
        if self.outbox.see_heads(heads, self._now()):
            self._on_change()

    async def _compare(self) -> None:
        """Believe HQ where the journal has the same hash under the same number.

        It may be another life's: of the journal of which this one is a copy, or of the box that has a copy of this one.
        Its numbers go on as ours do, so that to believe them would be to count as confirmed what HQ has never got.
        """
        heads = await self._tail.heads()
        if await self._tail.epoch() != self.epoch:
            self._look_at = 0.0
            return
        doubts, self._doubts = self._doubts, {}
        self.outbox.see_heads(heads, self._now())
        for fact_class, (seq, digest) in doubts.items():
            found = await self._tail.hash_at(fact_class, seq) if digest else None
            if seq > heads.get(fact_class, 0) or (found is not None and not found.hex().startswith(digest)):
                if self.outbox.distrust(fact_class):
                    await self._cursors.forget(self.epoch, fact_class)
                if self.hindrance.strange(fact_class, seq):
                    self._on_change()
                continue
            self.outbox.tracks[fact_class].compared = found is not None
            if self.outbox.confirm({fact_class: seq}, self._now()):
                self.hindrance.moved(self._now())
                self._unsaved.set()
                self._on_change()

    # -- sending -------------------------------------------------------------------------------------------------------

    async def _send_batch(self, fact_class: FactClass) -> None:
        track, after, epoch = self.outbox.tracks[fact_class], self.outbox.tracks[fact_class].sent, self.epoch
        topic = topics.up(self._store, fact_class.value)
        limit = self.outbox.packet_bytes - len(topic) - PACKET_OVERHEAD_BYTES
        aim = limit if fact_class is FactClass.CRITICAL else min(limit, self.outbox.flow.batch_bytes(self._now()))
        if (left := self.outbox.window_left_bytes()) is not None:
            aim = min(aim, max(LEAST_BATCH_BYTES, left * 9 // 10))
        packer = self._critical_packer if fact_class is FactClass.CRITICAL else self._packer
        size_bytes = min(policy.MAX_BATCH_RAW_BYTES, packer.raw_bytes(fact_class, aim))
        most = 1 if self.outbox.refusals.one_fact(fact_class) else policy.MAX_BATCH_FACTS
        links = await self._tail.links(fact_class, after, most, size_bytes)
        if not links:
            track.head = track.sent
            return
        prev = await self._before(track, fact_class, after, links[0][0])
        keys = await self._tail.keys(fact_class, links)
        if not await self._same_epoch(epoch):
            return
        if self._still(track, fact_class, after):
            thin = self.outbox.flow.thin(self._now())
            pack = partial(packer.pack, aim_bytes=aim, limit_bytes=limit, thin=thin, keys=keys)
            packed = await asyncio.to_thread(pack, fact_class, epoch, links, prev)
            if packed.omitted:
                await self._stays(epoch, fact_class, packed.first)
            size = len(packed.payload)
            if self._still(track, fact_class, after) and self.outbox.may_leave(size, self._now()):
                flight = self._sent(fact_class, packed.first, packed.last, packed.head, size)
                done = partial(self._done, flight)
                self._publish(topic, packed.payload, expiry_s=policy.BROKER_KEEPS_S, on_done=done, resend=False)

    async def _send_single(self, fact_class: FactClass) -> None:
        """Publish plain CloudEvents, one per message; of a backlog of states only the latest."""
        track, after = self.outbox.tracks[fact_class], self.outbox.tracks[fact_class].sent
        most = 1 if self.outbox.refusals.careful else max(1, self.outbox.room)
        rows = await self._tail.rows(fact_class, after, most, policy.MAX_BATCH_RAW_BYTES)
        if not rows:
            track.head = track.sent
        if not await self._same_epoch(self.epoch) or not self._still(track, fact_class, after):
            return
        keys = await self._tail.keys(fact_class, [(row.seq, row.body, row.hash) for row in rows])
        topic = topics.up(self._store, fact_class.value)
        latest = {key: row.seq for row in rows if (key := _coalesce_key(row)) is not None}
        first = rows[0].seq if rows else 0
        for row in rows:
            key = _coalesce_key(row)
            if key is not None and latest[key] != row.seq:
                continue
            if fact_class is not FactClass.CRITICAL and not self.outbox.flow.open(self._now()):
                return
            payload = single(row.body, keys)
            if not self.outbox.fits(len(payload)):
                return
            flight = self._sent(fact_class, first, row.seq, row.hash, len(payload))
            first = row.seq + 1
            if len(payload) > self.outbox.packet_bytes - len(topic) - PACKET_OVERHEAD_BYTES:
                await self._stays(self.epoch, fact_class, row.seq)
                self.outbox.stays(flight)
                self._done(flight, None)
                continue
            expiry_s = policy.POLICY[fact_class].single_expiry_s
            self._publish(topic, payload, expiry_s=expiry_s, on_done=partial(self._done, flight), resend=False)

    async def _before(self, track: Track, fact_class: FactClass, after: int, first: int) -> bytes | None:
        """The hash before `first`, the first above `after` that there is; None when the journal no longer has it."""
        if first != after + 1:
            log.warning("%s %d to %d are no longer in the journal", fact_class.value, after + 1, first - 1)
        elif track.sent == after and track.prev is not None:
            return track.prev
        return await self._tail.hash_at(fact_class, first - 1)

    async def _same_epoch(self, epoch: str) -> bool:
        """Whether what was just read is of this epoch: edge may have put another file in the journal's place."""
        if await self._tail.epoch() == epoch:
            return True
        self._look_at = self._now()
        return False

    def _still(self, track: Track, fact_class: FactClass, after: int) -> bool:
        """Whether the world is as it was when what follows `after` was read."""
        return track is self.outbox.tracks[fact_class] and track.sent == after and self._connected

    def _sent(self, fact_class: FactClass, first: int, last: int, head: bytes, size_bytes: int) -> Flight:
        now = self._now()
        flight = self.outbox.sent(fact_class, first, last, head, size_bytes, now)
        if self.outbox.budget.levels(now):  # a crash must not give it back
            self._unsaved.set()
        return flight

    def _done(self, flight: Flight, error: BusError | None) -> None:
        now = self._now()
        if error is not None:
            self.outbox.dropped(flight)
            self.hindrance.failed(flight, error, now)
        elif self.outbox.acked(flight, now):
            self.hindrance.moved(now)
            self._unsaved.set()
            self._on_change()
        self._say()
        self._wake.set()

    def _say(self) -> None:
        """Tell of what the broker refuses when that has changed."""
        words = self.outbox.refusals.words
        if words != self._said:
            self._said = words
            log.log(logging.ERROR if words else logging.INFO, "%s", words or "the cloud broker takes all facts again")
            self._on_change()

    def _park_soon(self, rejected: Mapping[FactClass, list[int]]) -> None:
        """Note what HQ refuses; it says so again with every confirmation."""
        told = {(self.epoch, fact_class, seq) for fact_class, seqs in rejected.items() for seq in seqs}
        if told <= self._parked:
            return
        self._parked |= told
        self._parking.start(self._park(self.epoch, dict(rejected), told), "park rejected facts")

    async def _park(self, epoch: str, rejected: Mapping[FactClass, list[int]], told: set[_Place]) -> None:
        try:
            for fact_class, seqs in rejected.items():
                if await self._cursors.park(epoch, fact_class, seqs, WHY_REJECTED):
                    log.error(
                        "HQ will never take %s %s: they stay in the journal; look at them there", fact_class, seqs
                    )
        except sqlite3.Error:
            self._parked -= told  # HQ says it again
            raise
        self._on_change()

    async def _stays(self, epoch: str, fact_class: FactClass, seq: int) -> None:
        """Note a fact that cannot be sent at all. HQ is told so in any case: a full disk here holds nothing up."""
        log.error("%s %d is %s and stays here", fact_class.value, seq, WHY_TOO_LARGE)
        try:
            await self._cursors.park(epoch, fact_class, [seq], WHY_TOO_LARGE)
        except sqlite3.Error as error:
            log.error("that %s %d stays here could not be noted: %s", fact_class.value, seq, error)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _coalesce_key(row: Row) -> tuple[str, str] | None:
    key = policy.COALESCE.get(row.type)
    if key is None:
        return None
    value = orjson.loads(row.body).get("data", {}).get(key)
    return None if value is None else (row.type, str(value))
