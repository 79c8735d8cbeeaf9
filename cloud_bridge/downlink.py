"""HQ to store: every message of a stream, in order, without a gap, acknowledged only after edge has committed it.

Strategy: a message that is next in its stream is handed to edge byte for byte and stays unacknowledged until edge says
that it is on disk (or refused for good); then the position is saved, then the cloud gets its acknowledgement. A message
that is not next is dropped, and HQ is asked for what is missing: it replays from its own log, so nothing needs to be
hoarded here. The same question is asked on every connection, because what was sent meanwhile may have met nobody.

    frame header: {"stream":"prices","epoch":"<UUIDv7>","seq":7,"kind":"chunk", ...}   "group" when for many stores

A stream's epochs are UUIDv7, so a later one sorts behind; a new epoch starts at 1. Which epoch it is, HQ's offer says
in the end: a stranger's message of a later epoch can begin one, and cannot keep it.

Asking: HQ answers with an `Offer` (how far each stream goes, what of it comes now, from which number on there still is
anything) and sends that window. The next question goes out when the window is in hand and there is more, and otherwise
only after nothing has come for a while, at growing intervals: a question too many would fetch everything once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import NoReturn

from pydantic import ValidationError

from cloud_bridge.cursors import Cursors
from cloud_bridge.down_stream import DownHeader, Pending, Stream
from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.envelope import new_id
from edge.bus.messages.facts import first_error
from edge.bus.messages.links import Committed, Need, Offer, Offered, StreamPosition
from edge.bus.messages.statuses import GatewayStatus

log = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 32
"""How many downlink messages the cloud may send ahead of our acknowledgements."""

MAX_STREAMS = 64
"""Of every group together; HQ has a handful. What else comes is not HQ's, and would be remembered for ever."""

AGAIN_AFTER_S = 5.0
AGAIN_TO_S = 60.0
"""Edge has not answered: hand over again after this, doubling up to that."""

ASK_EVERY_S = 0.5
"""HQ is asked at most this often."""

ASK_AGAIN_S = 5.0
ASK_AGAIN_TO_S = 300.0
"""Something is missing and nothing has come for so long: ask again, doubling up to that."""


class Downlink:
    """One store's downlink. `forward(stream, payload)` hands to edge, `ask(need)` asks HQ."""

    def __init__(
        self,
        *,
        store: str,
        groups: Iterable[str],
        cursors: Cursors,
        forward: Callable[[str, bytes], None],
        ask: Callable[[Need], None],
    ) -> None:
        self.streams: dict[str, Stream] = {}
        self._store = store
        self._groups = tuple(groups)
        self._cursors = cursors
        self._forward = forward
        self._ask = ask
        self._inbox: asyncio.Queue[Message | Committed] = asyncio.Queue()
        self._ask_at: float | None = None
        self._asked_at = 0.0
        self._heard_at = 0.0
        self._question = ""
        self._unanswered = False
        self._asks = 0
        self._edge_away = False
        self._nudge = asyncio.Event()

    # -- what the daemon tells -----------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the positions that were saved."""
        for key, (epoch, seq) in (await self._cursors.positions()).items():
            self.streams[key] = Stream(key.rpartition(":")[2], epoch, seq, seq)

    def on_down(self, message: Message) -> None:
        """A message from HQ. Bounded by the receive maximum of the connection."""
        self._inbox.put_nowait(message)
        self._nudge.set()

    def on_committed(self, message: Message) -> None:
        """Edge's answer to one message."""
        try:
            self._inbox.put_nowait(Committed.model_validate_json(message.payload))
        except ValidationError as error:
            log.error("edge's answer cannot be read: %s", first_error(error))
        message.ack()
        self._nudge.set()

    def on_gateway_status(self, message: Message) -> None:
        """Edge has gone or come back: what it has not answered is handed over again when it is back."""
        with contextlib.suppress(ValidationError):
            away = GatewayStatus.model_validate_json(message.payload).state == "stopped"
            if self._edge_away and not away:
                for stream in self.streams.values():
                    stream.again_at = 0.0
                self._nudge.set()
            self._edge_away = away
        message.ack()

    def need(self) -> Need:
        """Where this store stands in each stream."""
        have = {key: StreamPosition(epoch=stream.epoch, seq=stream.last) for key, stream in self.streams.items()}
        return Need(store=self._store, ask=new_id(), groups=self._groups, have=have)

    def ask_now(self) -> None:
        """Ask HQ for what is missing; what it offered on an earlier connection may have met nobody."""
        for stream in self.streams.values():
            stream.until = 0
        self._asks = 0
        self._put_question()

    def ask_what_is_confirmed(self) -> None:
        """For the uplink: what HQ has of our facts, and nothing else. What is coming down is not disturbed by it."""
        self._ask(self.need().model_copy(update={"only_confirmed": True}))

    def _put_question(self) -> None:
        self._ask_at = None
        self._asked_at = self._now()
        self._unanswered = True
        need = self.need()
        self._question = need.ask
        self._ask(need)

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Take what comes, until cancelled. `sqlite3.Error` when ``bridge.db`` cannot be written: run it again."""
        for key, stream in self.streams.items():
            await self._settle(key, stream)  # what could not be saved then
        while True:
            self._nudge.clear()
            while not self._inbox.empty():
                item = self._inbox.get_nowait()
                if isinstance(item, Committed):
                    await self._commit(item)
                elif topics.last_level(item.topic) == topics.OFFER_LEVEL:
                    await self._offered(item)
                else:
                    self._take(item)
            pause = self._due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._nudge.wait()

    def _take(self, message: Message) -> None:
        try:
            header = DownHeader.model_validate(frame.unpack(message.payload)[0])
        except frame.BadFrame as error:
            log.error("a downlink message cannot be read and is dropped: %s", error)
            message.ack()
            return
        except ValidationError as error:
            log.error("a downlink message cannot be read and is dropped: header: %s", first_error(error))
            message.ack()
            return
        if header.group is not None and header.group not in self._groups:
            log.error("a downlink message is for group %r, which this store is not in; it is dropped", header.group)
            message.ack()
            return
        stream = self.streams.get(header.key)
        if stream is None and len(self.streams) >= MAX_STREAMS:
            log.error("more than %d streams come down; %s is dropped", MAX_STREAMS, header.key)
            message.ack()
            return
        if stream is None or header.epoch > stream.epoch:
            if stream is not None:
                self._ask_soon()  # only HQ's own word settles which epoch it is
            stream = self._begin(header.key, header.stream, header.epoch)
        if header.epoch != stream.epoch or header.seq <= stream.committed:
            message.ack()  # of an earlier epoch, or here already
            return
        stream.seen = max(stream.seen, header.seq)
        if header.seq in stream.pending:
            stream.pending[header.seq].messages.append(message)  # on a new connection, or HQ sent it twice
        elif header.seq == stream.last + 1 and not stream.full:
            if not stream.pending:
                stream.tries, stream.again_at = 0, self._now() + AGAIN_AFTER_S
            stream.pending[header.seq] = Pending([message])
            self._heard()
            self._forward(stream.name, message.payload)
        else:
            if stream.last < header.seq <= stream.until:
                stream.until = 0  # of what HQ is sending, something is lost
            message.ack()  # HQ replays it
        self._ask_if_next(stream)

    def _heard(self) -> None:
        """Something that was missing has come, or there is room for it again."""
        self._heard_at, self._asks = self._now(), 0

    def _ask_if_next(self, stream: Stream) -> None:
        """Ask for the next window, or for what a gap shows, unless it is on its way."""
        if not stream.lacks or stream.coming or not self._room or self._ask_at is not None:
            return
        if self._unanswered:
            self._asks = min(self._asks, 1)  # somebody is there who sends
        else:
            self._ask_soon()

    def _ask_soon(self) -> None:
        self._ask_at = max(self._now(), self._asked_at + ASK_EVERY_S)

    @property
    def _room(self) -> bool:
        """Whether the cloud may send us anything: what edge has not answered fills its window."""
        return sum(len(stream.pending) for stream in self.streams.values()) < RECEIVE_MAXIMUM

    async def _offered(self, message: Message) -> None:
        """HQ tells what there is."""
        message.ack()
        try:
            offer = Offer.model_validate_json(message.payload)
        except ValidationError as error:
            log.error("HQ's offer cannot be read: %s", first_error(error))
            return
        if offer.ask != self._question:
            return  # the answer to an earlier question: things may have changed since
        self._unanswered = False
        passed: list[tuple[str, Stream]] = []
        for key, offered in offer.streams.items():
            group, _, name = key.rpartition(":")
            if group and group not in self._groups:
                log.error("HQ offers something for group %r, which this store is not in", group)
                continue
            stream = self.streams.get(key)
            if stream is None and len(self.streams) >= MAX_STREAMS:
                log.error("HQ offers more than %d streams; %s is passed by", MAX_STREAMS, key)
                continue
            if stream is None or stream.epoch != offered.epoch:
                stream = self._begin(key, name, offered.epoch)
            if self._told(key, stream, offered):
                passed.append((key, stream))
        for key, stream in passed:
            await self._cursors.save_position(key, stream.epoch, stream.committed)

    def _told(self, key: str, stream: Stream, offered: Offered) -> bool:
        """HQ's word on one stream; returns whether its position has moved."""
        stream.seen = max(stream.seen, offered.last)
        stream.until = max(stream.until, offered.until)
        if offered.first - 1 > stream.last:
            log.warning("HQ has %s from %d on: what was before is obsolete", key, offered.first)
            stream.gone = offered.first - 1
            self._heard()
            if not stream.pending:
                stream.committed = stream.gone
                return True
        return False

    def _begin(self, key: str, name: str, epoch: str) -> Stream:
        """A stream from its first number on; what is in hand of another epoch is let go."""
        before = self.streams.get(key)
        stream = self.streams[key] = Stream(name, epoch)
        for pending in before.pending.values() if before else ():
            pending.ack()
        return stream

    async def _commit(self, answer: Committed) -> None:
        found = [
            (key, stream)
            for key, stream in self.streams.items()
            if (stream.name, stream.epoch) == (answer.stream, answer.epoch) and answer.seq in stream.pending
        ]
        if not found:
            return  # answered twice, or of an epoch that is over
        key, stream = found[0]
        if not answer.ok:
            log.error("edge refuses %s %d for good: %s", answer.stream, answer.seq, answer.detail)
        stream.pending[answer.seq].done = True
        await self._settle(key, stream)

    async def _settle(self, key: str, stream: Stream) -> None:
        """Save how far edge has committed a stream, then let go of that. `sqlite3.Error`: all is as it was."""
        finished = stream.finished()
        if not finished:
            return
        rest = len(stream.pending) - len(finished)
        committed = finished[-1] if rest else max(finished[-1], stream.gone)
        await self._cursors.save_position(key, stream.epoch, committed)
        stream.committed = committed
        stream.tries, stream.again_at = 0, self._now() + AGAIN_AFTER_S
        for seq in finished:
            stream.pending.pop(seq).ack()
        self._heard()
        self._ask_if_next(stream)

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _due(self) -> float | None:
        """Do what time demands; returns seconds until something is due again."""
        now = self._now()
        waits: list[float] = []
        for stream in self.streams.values():
            if stream.pending:
                if now >= stream.again_at:
                    stream.again_at = now + min(AGAIN_TO_S, AGAIN_AFTER_S * 2**stream.tries)
                    stream.tries += 1
                    for _, pending in sorted(stream.pending.items()):
                        if not pending.done:
                            self._forward(stream.name, pending.payload)
                waits.append(stream.again_at - now)
        stalled_at = self._stalled_at()
        if (self._ask_at is not None and now >= self._ask_at) or (stalled_at is not None and now >= stalled_at):
            self._asks += stalled_at is not None and now >= stalled_at
            self._put_question()
            stalled_at = self._stalled_at()
        waits += [at - now for at in (self._ask_at, stalled_at) if at is not None]
        return min(waits) if waits else None

    def _stalled_at(self) -> float | None:
        """When to ask again because nothing comes of what is missing; None while nothing is."""
        lacks = self._unanswered or any(stream.lacks for stream in self.streams.values())
        if not lacks or not self._room:
            return None
        return max(self._asked_at, self._heard_at) + min(ASK_AGAIN_TO_S, ASK_AGAIN_S * 2.0**self._asks)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
