"""Rows of the journal to the payload of one message: checked against their chain, joined, compressed, cut to size.

Strategy: how well a class compresses is learnt as it goes, so that a batch comes out about as large as it should be;
one that is too large for the broker is cut. A row whose chain does not add up goes alone, so that HQ refuses it and
nothing else; one that is too large by itself is replaced by a word about it. Blocking: call it in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_bridge.wire import Batch, Encoder, encode_omission
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.reader import Link

log = logging.getLogger(__name__)

FIRST_RATIO = 4.0
WHY_TOO_LARGE = "too large for the cloud broker"


@dataclass(frozen=True, slots=True)
class Packed:
    """Facts `first` to `last` of a class, of which `head` is the last one's hash. `omitted`: only spoken of."""

    first: int
    last: int
    head: bytes
    payload: bytes
    omitted: bool = False


class Packer:
    """Packs for one store. One at a time."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._encoder = Encoder()
        self._ratio = dict.fromkeys(FactClass, FIRST_RATIO)

    def raw_bytes(self, fact_class: FactClass, packed_bytes: int) -> int:
        """About so much of the journal makes a payload of `packed_bytes`."""
        return int(packed_bytes * self._ratio[fact_class])

    def pack(
        self,
        fact_class: FactClass,
        epoch: str,
        links: Sequence[Link],
        prev: bytes | None,
        *,
        aim_bytes: int,
        limit_bytes: int,
        thin: bool,
    ) -> Packed:
        """The first of `links` in a payload of at most `limit_bytes`; `aim_bytes` was wanted. `links` are not empty."""
        links = _sound(links, prev)
        payload = self._encode(fact_class, epoch, links, prev, aim_bytes, thin)
        while len(payload) > limit_bytes and len(links) > 1:
            links = links[: max(1, min(len(links) - 1, int(len(links) * limit_bytes / len(payload) * 0.9)))]
            payload = self._encode(fact_class, epoch, links, prev, aim_bytes, thin)
        first, last, head = links[0][0], links[-1][0], links[-1][2]
        if len(payload) <= limit_bytes:
            return Packed(first, last, head, payload)
        payload = encode_omission(self._batch(fact_class, epoch, links, prev), WHY_TOO_LARGE)
        return Packed(first, last, head, payload, omitted=True)

    def _encode(
        self, fact_class: FactClass, epoch: str, links: Sequence[Link], prev: bytes | None, aim_bytes: int, thin: bool
    ) -> bytes:
        payload = self._encoder.encode(self._batch(fact_class, epoch, links, prev), thin=thin)
        raw = sum(len(body) for _, body, _ in links)
        if raw > aim_bytes // 2:  # a small batch says little about how well a large one compresses
            self._ratio[fact_class] = 0.5 * self._ratio[fact_class] + 0.5 * 0.95 * raw / len(payload)
        return payload

    def _batch(self, fact_class: FactClass, epoch: str, links: Sequence[Link], prev: bytes | None) -> Batch:
        bodies = tuple(body for _, body, _ in links)
        return Batch(self._store, fact_class, epoch, links[0][0], prev, links[-1][2], bodies)


def _sound(links: Sequence[Link], prev: bytes | None) -> Sequence[Link]:
    """The links up to the first that does not add up; that one alone when it is the first."""
    for index, (seq, body, digest) in enumerate(links):
        if prev is not None and chain.link(prev, body) != digest:
            log.error("row %d of the journal does not match its hash: run `tillgate journal verify`", seq)
            return links[: index or 1]
        prev = digest
    return links
