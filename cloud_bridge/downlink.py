"""HQ to store: every message of a stream, in order, without a gap, acknowledged only after edge has committed it.

Strategy: a message that is next in its stream is handed to edge byte for byte and stays unacknowledged until edge says
that it is on disk (or refused for good); then the position is saved, then the cloud gets its acknowledgement. A message
that is not next is dropped, and HQ is asked for what is missing: it replays from its own log, so nothing needs to be
hoarded here. The same question is asked on every connection, because what was sent meanwhile may have met nobody.

    frame header: {"stream":"prices","epoch":"<UUIDv7>","seq":7,"kind":"chunk", ...}   "group" when for many stores

A stream's epochs are UUIDv7, so a later one sorts behind; a new epoch starts at 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_bridge.cursors import Cursors
from edge.bus import frame
from edge.bus.client import Message
from edge.bus.messages.base import Id
from edge.bus.messages.facts import first_error
from edge.bus.messages.links import Committed, Need, StreamPosition
from edge.bus.messages.statuses import GatewayStatus

log = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 32
"""How many downlink messages the cloud may send ahead of our acknowledgements; the bound of what is held here."""

AGAIN_AFTER_S = 5.0
AGAIN_TO_S = 60.0
"""Edge has not answered: hand over again after this, doubling up to that."""

ASK_EVERY_S = 1.0
ASK_AGAIN_S = 5.0
"""HQ is asked at most this often; and again after that, while something is still missing."""


class DownHeader(BaseModel):
    """The part of a downlink header that the bridge needs."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    stream: Id
    epoch: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    seq: int = Field(ge=1)
    group: Id | None = None

    @property
    def key(self) -> str:
        """What positions are kept under: the stream, with its group in front when it has one."""
        return f"{self.group}:{self.stream}" if self.group else self.stream


@dataclass(slots=True, eq=False)
class Pending:
    """A message that edge has been given; `message` is the one to acknowledge."""

    message: Message
    done: bool = False


@dataclass(slots=True)
class Stream:
    """One stream: `committed` and everything in `pending` behind it, without a gap. `seen` is the highest that came."""

    name: str
    epoch: str
    committed: int = 0
    seen: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)
    again_at: float = 0.0
    tries: int = 0

    @property
    def last(self) -> int:
        """The last sequence in hand."""
        return self.committed + len(self.pending)


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
        self._groups = frozenset(groups)
        self._cursors = cursors
        self._forward = forward
        self._ask = ask
        self._inbox: asyncio.Queue[Message | Committed] = asyncio.Queue()
        self._ask_at: float | None = None
        self._asked_at = 0.0
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
        return Need(store=self._store, have=have)

    def ask_now(self) -> None:
        """Ask HQ for what is missing."""
        self._ask_at = None
        self._asked_at = self._now()
        self._ask(self.need())

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Take what comes, until cancelled."""
        while True:
            self._nudge.clear()
            while not self._inbox.empty():
                item = self._inbox.get_nowait()
                if isinstance(item, Committed):
                    await self._commit(item)
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
        stream = self._stream(header)
        if stream is None or header.seq <= stream.committed:
            message.ack()  # of an earlier epoch, or here already
            return
        stream.seen = max(stream.seen, header.seq)
        if header.seq in stream.pending:
            stream.pending[header.seq].message = message  # came again on a new connection
        elif header.seq == stream.last + 1 and len(stream.pending) < RECEIVE_MAXIMUM:
            if not stream.pending:
                stream.tries, stream.again_at = 0, self._now() + AGAIN_AFTER_S
            stream.pending[header.seq] = Pending(message)
            self._forward(stream.name, message.payload)
        else:
            message.ack()  # HQ replays it
            self._ask_soon()

    def _stream(self, header: DownHeader) -> Stream | None:
        """The stream's state; a new one for a later epoch; None for an earlier epoch."""
        stream = self.streams.get(header.key)
        if stream is None or header.epoch > stream.epoch:
            for pending in stream.pending.values() if stream else ():
                pending.message.ack()
            stream = self.streams[header.key] = Stream(header.stream, header.epoch)
        return stream if header.epoch == stream.epoch else None

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
        finished: list[Message] = []
        while (pending := stream.pending.get(stream.committed + 1)) is not None and pending.done:
            finished.append(pending.message)
            del stream.pending[stream.committed + 1]
            stream.committed += 1
        if not finished:
            return
        stream.tries, stream.again_at = 0, self._now() + AGAIN_AFTER_S
        await self._cursors.save_position(key, stream.epoch, stream.committed)
        for message in finished:
            message.ack()
        if stream.seen > stream.last:
            self._ask_soon()

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
                            self._forward(stream.name, pending.message.payload)
                waits.append(stream.again_at - now)
        if self._ask_at is not None and now >= self._ask_at:
            self.ask_now()
            if any(stream.seen > stream.last for stream in self.streams.values()):
                self._ask_at = now + ASK_AGAIN_S
        if self._ask_at is not None:
            waits.append(self._ask_at - now)
        return min(waits) if waits else None

    def _ask_soon(self) -> None:
        if self._ask_at is None:
            self._ask_at = max(self._now(), self._asked_at + ASK_EVERY_S)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
