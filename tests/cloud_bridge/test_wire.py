"""The batch format: exact bytes there and back, and nothing believed that does not add up."""

from __future__ import annotations

import random

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge import wire
from cloud_bridge.hq.unpack import unpack
from edge.bus import envelope, frame
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from tests.cloud_bridge.rig import STORE, bodies

EPOCH = envelope.new_id()


def batch(items: list[bytes], first: int = 1, prev: bytes | None = None) -> wire.Batch:
    start = prev if prev is not None else chain.genesis(EPOCH, "transaction")
    head = start
    for body in items:
        head = chain.link(head, body)
    return wire.Batch(STORE, FactClass.TRANSACTION, EPOCH, first, start, head, tuple(items))


def test_a_batch_comes_back_byte_for_byte() -> None:
    sent = batch(bodies(1, 40))
    got = unpack(wire.Encoder().encode(sent), STORE)
    assert got.batch == sent
    assert got.sound
    assert got.batch.bodies == sent.bodies
    assert got.hashes[-1] == sent.head


def test_the_header_can_be_read_by_a_person() -> None:
    payload = wire.Encoder().encode(batch(bodies(1, 40)))
    line = payload.split(b"\n", 1)[0].decode()
    assert line.startswith('TG1 {"store":"s1","class":"transaction"')
    assert '"first":1,"last":40' in line


def test_a_small_batch_is_not_compressed_when_that_would_not_help() -> None:
    tiny = envelope.canonical({"id": "1", "type": "t", "tgclass": "transaction", "tgseq": 1})
    header, body = frame.unpack(wire.Encoder().encode(batch([tiny])))
    assert header["encoding"] == "none"
    assert body == b"[" + tiny + b"]"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(json_values, min_size=1, max_size=4))
def test_any_json_survives_exactly(values: list[object]) -> None:
    items = [
        envelope.canonical({"id": "x", "type": "t", "tgclass": "transaction", "tgseq": seq, "data": {"value": value}})
        for seq, value in enumerate(values, start=1)
    ]
    got = unpack(wire.Encoder().encode(batch(items)), STORE)
    assert list(got.batch.bodies) == items


def test_a_changed_body_breaks_the_chain() -> None:
    items = bodies(1, 3)
    good = batch(items)
    forged = wire.Batch(
        STORE, FactClass.TRANSACTION, EPOCH, 1, good.prev, good.head, (items[0], *bodies(2, 1), items[2])
    )
    assert not unpack(wire.Encoder().encode(forged), STORE).sound


def test_without_the_hash_before_it_a_batch_is_taken_with_only_its_last_hash_known() -> None:
    known = batch(bodies(7, 2), first=7)
    blind = wire.Batch(STORE, FactClass.TRANSACTION, EPOCH, 7, None, known.head, known.bodies)
    got = unpack(wire.Encoder().encode(blind), STORE)
    assert got.sound
    assert got.hashes == [b"", known.head]


def test_an_omission_stands_for_one_fact() -> None:
    one = batch(bodies(5, 1), first=5)
    got = unpack(wire.encode_omission(one, "too large"), STORE)
    assert (got.batch.first, got.omitted, got.batch.bodies) == (5, "too large", ())


def good_header(**changed: object) -> dict[str, object]:
    header, _ = frame.unpack(wire.Encoder().encode(batch(bodies(1, 1))))
    return {**header, **changed}


BOMB = zstandard.ZstdCompressor().compress(b"[" + b" " * (wire.MAX_BODY_BYTES + 10) + b"]")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "no TG1 mark"),
        (b"\x00\xff\x80 rubbish", "no TG1 mark"),
        (b"TG1 {", "no end of header"),
        (b"TG1 nonsense\n[]", "not JSON"),
        (b"TG1 []\n[]", "not a JSON object"),
        (frame.pack({"store": STORE}, b"[]"), "header: "),
        (frame.pack(good_header(store="other"), b"[]"), "speaks for 'other'"),
        (frame.pack(good_header(first=0), b"[]"), "first"),
        (frame.pack(good_header(last=2**60), b"[]"), "last"),
        (frame.pack(good_header(last=50_000), b"[]"), "no range"),
        (frame.pack(good_header(prev="zz"), b"[]"), "prev"),
        (frame.pack(good_header(epoch="a\x00b"), b"[]"), "epoch"),
        (frame.pack(good_header(encoding="zstd"), b"not zstd"), "not zstd"),
        (frame.pack(good_header(encoding="zstd"), BOMB), "larger than"),
        (frame.pack(good_header(encoding="none"), b"{}"), "not a list"),
        (frame.pack(good_header(encoding="none"), b"[1]"), "not an event"),
        (frame.pack(good_header(encoding="none"), b"[ {}]"), "canonical"),
        (frame.pack(good_header(encoding="none"), b"[{}]"), "says it is"),
        (
            frame.pack(good_header(encoding="none"), b'[{"tgclass":"transaction","tgseq":1}]'),
            "no id or no type",
        ),
        (frame.pack(good_header(omitted="x"), b"[]"), "omission"),
    ],
)
def test_what_is_no_batch_is_refused_with_its_reason(payload: bytes, says: str) -> None:
    with pytest.raises(wire.BadBatch, match=says):
        unpack(payload, STORE)


def test_flipped_and_cut_bytes_are_refused_or_unsound_and_never_anything_else() -> None:
    payload = wire.Encoder().encode(batch(bodies(1, 20)))
    chance = random.Random(7)
    good = unpack(payload, STORE)
    for _ in range(500):
        damaged = bytearray(payload)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            got = unpack(bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]), STORE)
        except wire.BadBatch:
            continue
        same = got.batch.bodies == good.batch.bodies
        assert same or not got.sound or got.batch.prev is None or got.batch.head != good.batch.head


def test_bodies_are_joined_as_they_are() -> None:
    items = bodies(1, 200)
    header, body = frame.unpack(wire.Encoder().encode(batch(items)))
    assert header["encoding"] == "zstd"
    text = zstandard.ZstdDecompressor().decompress(body)
    assert text == b"[" + b",".join(items) + b"]"
    assert len(orjson.loads(text)) == 200
