"""Rows to payloads of a size: about what was wanted, never more than is allowed, and what is wrong goes alone."""

from __future__ import annotations

import random

import pytest

from cloud_bridge.hq.unpack import unpack
from cloud_bridge.packer import WHY_TOO_LARGE, Packer
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.reader import Link
from tests.cloud_bridge.rig import STORE, TYPES

EPOCH = envelope.new_id()
T = FactClass.TRANSACTION
START = chain.genesis(EPOCH, T.value)


def links(count: int, noise: int = 0, seed: int = 1) -> list[Link]:
    """A chain of facts, each with so many random hex digits."""
    chance = random.Random(seed)
    out: list[Link] = []
    digest = START
    for seq in range(1, count + 1):
        event = envelope.build(
            TYPES[T], envelope.gateway_source(STORE), {"noise": f"{chance.getrandbits(4 * noise):x}"}
        )
        body = envelope.canonical({**event, "tgclass": T.value, "tgseq": seq})
        digest = chain.link(digest, body)
        out.append((seq, body, digest))
    return out


@pytest.mark.parametrize("aim", [3_000, 20_000, 100_000])
@pytest.mark.parametrize("thin", [False, True])
def test_batches_come_out_about_as_large_as_they_should_be(aim: int, thin: bool) -> None:
    packer = Packer(STORE)
    journal = links(8_000, noise=30)
    sizes = []
    after = 0
    while after < len(journal) - 3_000:
        raw = packer.raw_bytes(T, aim)
        count, size = 0, 0
        while size + len(journal[after + count][1]) < raw:
            size += len(journal[after + count][1])
            count += 1
        part = journal[after : after + count]
        prev = journal[after - 1][2] if after else START
        packed = packer.pack(T, EPOCH, part, prev, aim_bytes=aim, limit_bytes=256_000, thin=thin)
        got = unpack(packed.payload, STORE)
        assert got.sound
        assert got.batch.bodies == tuple(body for _, body, _ in part)
        sizes.append(len(packed.payload))
        after += count
    for size in sizes[-2:]:
        assert 0.6 * aim < size < 1.2 * aim


def test_what_is_too_large_is_cut_and_a_single_one_is_only_spoken_of() -> None:
    packer = Packer(STORE)
    journal = links(50, noise=2_000)
    packed = packer.pack(T, EPOCH, journal, START, aim_bytes=10_000, limit_bytes=10_000, thin=False)
    assert len(packed.payload) <= 10_000
    assert (packed.first, packed.omitted) == (1, False)
    assert packed.head == journal[packed.last - 1][2]
    packed = packer.pack(T, EPOCH, journal[:1], START, aim_bytes=500, limit_bytes=500, thin=False)
    assert (packed.first, packed.last, packed.omitted) == (1, 1, True)
    assert unpack(packed.payload, STORE).omitted == WHY_TOO_LARGE


def test_a_link_that_does_not_add_up_goes_alone() -> None:
    packer = Packer(STORE)
    journal = links(10)
    journal[4] = (5, journal[4][1].replace(b'"noise"', b'"nosie"'), journal[4][2])

    def pack(rest: list[Link], prev: bytes) -> tuple[int, int]:
        packed = packer.pack(T, EPOCH, rest, prev, aim_bytes=10_000, limit_bytes=10_000, thin=False)
        return packed.first, packed.last

    assert pack(journal, START) == (1, 4)
    assert pack(journal[4:], journal[3][2]) == (5, 5)
    assert pack(journal[5:], journal[4][2]) == (6, 10)
