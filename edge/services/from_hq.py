"""What HQ sends down, one stream per service: taken in order, answered to the bridge once it is on disk.

Strategy: the bridge hands over HQ's messages byte for byte and keeps each until we say `Committed`; it gives it again
when we do not. So a service only has to put the message on disk before it returns, and to know one that came twice.
Nothing a service does takes long here: what a message sets going runs elsewhere.

What is signed is checked by `Believed`: the signature, then that it speaks to this store, or to a group of this store
and then only when the bridge says that it came for that group.

Source: design page "Journal, bridge, HQ" (downlink).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.messages.commands import Refusal
from edge.bus.messages.facts import first_error
from edge.bus.messages.links import Committed
from edge.bus.messages.prices import PRICES_STREAM
from edge.bus.messages.replies import Code
from edge.bus.messages.signed import Addressed, Signed
from edge.bus.signatures import signed_by_one_of
from edge.card_numbers import in_payload
from edge.journal.store import StorageFull, StoreFaulted
from edge.services.quarantine import Quarantine
from edge.supervisor import Background

log = logging.getLogger(__name__)

UNKNOWN_STREAM = "unknown_stream"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the bridge handed it over. `group` is None for what is this store's own."""

    stream: str
    epoch: str
    seq: int
    group: str | None
    header: frame.Header
    body: bytes


class NotTaken(Exception):
    """This message will never be taken; HQ and the bridge are told `code` and `detail`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


Take = Callable[[Delivery], Awaitable[None]]
"""Puts a message on disk; NotTaken when it never will. StorageFull and StoreFaulted: the bridge keeps it for later."""


class FromHq:
    """The desk that HQ's messages come to. `serve` before the first message."""

    def __init__(self, publish: Callable[..., None], quarantine: Quarantine) -> None:
        self._publish = publish
        self._quarantine = quarantine
        self._services: dict[str, tuple[Take, asyncio.Lock]] = {}
        self._taking = Background()

    def serve(self, stream: str, take: Take) -> None:
        """Let `take` have this stream, one message after the other."""
        self._services[stream] = take, asyncio.Lock()

    def on_down(self, message: Message) -> None:
        """Take one message from ``bridge/down/{stream}``; answered on ``bridge/committed`` once it is on disk."""
        self._taking.start(self._taken(message), "message from HQ")

    async def _taken(self, message: Message) -> None:
        """Take it; when the disk does not let us, say nothing: the bridge still owns it and gives it to us again."""
        try:
            await self._take(message)
        except (StorageFull, StoreFaulted) as error:
            log.error("a message from HQ is not kept: %s", error)
        message.ack()

    async def _take(self, message: Message) -> None:
        try:
            delivery = _delivery(message.payload)
        except ValueError as error:
            log.error("a downlink message cannot be read: %s", error)
            return
        ok, detail = True, ""
        try:
            await self._serve(delivery)
        except NotTaken as refused:
            ok, detail = False, refused.detail
            self._quarantine.keep(message.topic, None, refused.code, refused.detail, delivery.body)
        answer = Committed(stream=delivery.stream, epoch=delivery.epoch, seq=delivery.seq, ok=ok, detail=detail)
        self._publish(topics.BRIDGE_COMMITTED, answer.model_dump_json().encode(), qos=1)

    async def _serve(self, delivery: Delivery) -> None:
        service = self._services.get(delivery.stream)
        if service is None:
            raise NotTaken(UNKNOWN_STREAM, f"no service takes the stream {delivery.stream!r}")
        take, turn = service
        if delivery.stream != PRICES_STREAM and (place := in_payload(delivery.body)) is not None:
            raise NotTaken(Code.CARD_NUMBER_REFUSED, str(place))
        async with turn:
            await take(delivery)

    async def stop(self) -> None:
        """Cancel what is in hand; the bridge gives it to our next life."""
        await self._taking.stop()


class Believed:
    """Tells what is HQ's own word to this store."""

    def __init__(self, public_keys: Iterable[str], store_id: str, groups: Iterable[str]) -> None:
        self._public_keys = tuple(public_keys)
        self._store_id = store_id
        self._groups = frozenset(groups)

    def change(self, public_keys: Iterable[str]) -> None:
        """HQ's keys are these from now on."""
        self._public_keys = tuple(public_keys)

    def text_of(self, body: bytes) -> str:
        """The text of a `Signed` body, when HQ's key signed it; NotTaken with the reason when not."""
        try:
            signed = Signed.model_validate_json(body)
        except ValidationError as error:
            raise NotTaken(Code.BAD_MESSAGE, first_error(error)) from None
        self.check(signed.text, signed.signature)
        return signed.text

    def check(self, text: str, signature: str) -> None:
        """NotTaken unless HQ's key signed `text`."""
        if not self._public_keys:
            raise NotTaken(Refusal.NO_KEY, "this store has no [cloud] price_key: nothing of HQ's can be believed")
        if not signed_by_one_of(self._public_keys, text, signature):
            raise NotTaken(Refusal.BAD_SIGNATURE, "it is not signed by HQ's key")

    def speaks_to_us(self, signed: Addressed, came_for: str | None) -> None:
        """NotTaken unless `signed` is for this store, or for a group of this store and `came_for` that group."""
        if signed.store is not None:
            if signed.store != self._store_id:
                raise NotTaken(Code.NOT_YOURS, f"is for store {signed.store!r}")
            if came_for is not None:
                raise NotTaken(Code.NOT_YOURS, f"is for this store alone and came for group {came_for!r}")
            return
        if signed.group not in self._groups:
            raise NotTaken(Code.NOT_YOURS, f"is for group {signed.group!r}, which this store is not in")
        if signed.group != came_for:
            raise NotTaken(Code.NOT_YOURS, f"is for group {signed.group!r} and came for {came_for or 'this store'!r}")


def _delivery(payload: bytes) -> Delivery:
    """The message; ValueError when its frame or header cannot be read."""
    header, body = frame.unpack(payload)
    stream, epoch, seq, group = (header.get(key) for key in ("stream", "epoch", "seq", "group"))
    if not (isinstance(stream, str) and isinstance(epoch, str) and isinstance(seq, int)):
        raise ValueError("the header lacks stream, epoch or seq")
    if group is not None and not isinstance(group, str):
        raise ValueError("the header's group is no text")
    return Delivery(stream, epoch, seq, group, header, body)
