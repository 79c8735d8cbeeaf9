"""Rows of the journal to the payload of one message: checked against their chain, joined, compressed, cut to size.

Strategy: how well a class compresses is learnt as it goes, so that a batch comes out about as large as it should be;
one that is too large for the broker is cut. A row whose chain does not add up goes alone, so that HQ refuses it and
nothing else; one that is too large by itself is replaced by a word about it. Blocking: call it in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cloud_bridge.wire import MAX_BATCH_KEYS, Batch, Encoder, encode_omission
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.personal import key_as_text, pseudonyms_in
from edge.journal.reader import Link

log = logging.getLogger(__name__)

FIRST_RATIO = 4.0
WHY_TOO_LARGE = "too large for the cloud broker"

Keys = Mapping[str, bytes]
NO_KEYS: Keys = {}


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
        keys: Keys = NO_KEYS,
    ) -> Packed:
        """The first of `links` in a payload of at most `limit_bytes`; `aim_bytes` was wanted. `links` are not empty.

        `keys` of the customers that they speak of, pseudonym to key: those of the facts that go travel with them.
        """
        links = _sound(links, prev)
        if keys:
            links = _few_customers(links)
        payload = self._encode(fact_class, epoch, links, prev, aim_bytes, thin, keys)
        while len(payload) > limit_bytes and len(links) > 1:
            links = links[: max(1, min(len(links) - 1, int(len(links) * limit_bytes / len(payload) * 0.9)))]
            payload = self._encode(fact_class, epoch, links, prev, aim_bytes, thin, keys)
        first, last, head = links[0][0], links[-1][0], links[-1][2]
        if len(payload) <= limit_bytes:
            return Packed(first, last, head, payload)
        payload = encode_omission(self._batch(fact_class, epoch, links, prev), WHY_TOO_LARGE)
        return Packed(first, last, head, payload, omitted=True)

    def _encode(
        self,
        fact_class: FactClass,
        epoch: str,
        links: Sequence[Link],
        prev: bytes | None,
        aim_bytes: int,
        thin: bool,
        keys: Keys,
    ) -> bytes:
        batch = self._batch(fact_class, epoch, links, prev)
        if keys:
            batch = replace(batch, keys=_spoken_of(batch.bodies, keys))
        payload = self._encoder.encode(batch, thin=thin)
        raw = sum(len(body) for _, body, _ in links)
        if raw > aim_bytes // 2:  # a small batch says little about how well a large one compresses
            self._ratio[fact_class] = 0.5 * self._ratio[fact_class] + 0.5 * 0.95 * raw / len(payload)
        return payload

    def _batch(self, fact_class: FactClass, epoch: str, links: Sequence[Link], prev: bytes | None) -> Batch:
        bodies = tuple(body for _, body, _ in links)
        return Batch(self._store, fact_class, epoch, links[0][0], prev, links[-1][2], bodies)


def single(body: bytes, keys: Keys) -> bytes:
    """A fact as a message of its own: the keys of the customers it speaks of are one more attribute, ``tgkeys``."""
    if not keys or not (of_it := _spoken_of([body], keys)):
        return body
    return body[:-1] + b',"tgkeys":"' + " ".join(map(key_as_text, of_it)).encode() + b'"}'


def _few_customers(links: Sequence[Link]) -> Sequence[Link]:
    """The first of the links, as many as speak of no more customers than a batch may; at least one."""
    known: set[str] = set()
    for index, (_, body, _) in enumerate(links):
        known.update(pseudonyms_in(body))
        if len(known) > MAX_BATCH_KEYS:
            return links[: index or 1]
    return links


def _spoken_of(bodies: Iterable[bytes], keys: Keys) -> tuple[bytes, ...]:
    wanted = dict.fromkeys(pseudonym for body in bodies for pseudonym in pseudonyms_in(body))
    return tuple(keys[pseudonym] for pseudonym in wanted if pseudonym in keys)[:MAX_BATCH_KEYS]


def _sound(links: Sequence[Link], prev: bytes | None) -> Sequence[Link]:
    """The links up to the first that does not add up; that one alone when it is the first."""
    for index, (seq, body, digest) in enumerate(links):
        if prev is not None and chain.link(prev, body) != digest:
            log.error("row %d of the journal does not match its hash: run `tillgate journal verify`", seq)
            return links[: index or 1]
        prev = digest
    return links
