"""A person's part of a fact: sealed with a key of their own, the same every time, and of no use in another place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import BaseModel

from edge.bus.messages.facts import FACTS, BadFact, MemberIdentified, SaleCompleted, check
from edge.bus.messages.personal import Personal, about
from edge.journal import personal
from edge.journal.audit import verify
from edge.journal.store import Accepted, Conflict, StorageFull
from edge.seal import Keyring
from tests.access.privacy_rig import MEMBER, a_store, checked, member_event, rows, sale_event, take


def test_aes_siv_is_that_of_the_standard() -> None:
    """RFC 5297, A.1 (one piece of associated data) and A.2 (three of them, the last a nonce)."""
    box = AESSIV(bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")).encrypt(
        bytes.fromhex("112233445566778899aabbccddee"),
        [bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")],
    )
    assert box.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"
    box = AESSIV(bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")).encrypt(
        bytes.fromhex("7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553"),
        [
            bytes.fromhex("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"),
            bytes.fromhex("102030405060708090a0"),
            bytes.fromhex("09f911029d74e35bd84156c5635688c0"),
        ],
    )
    assert box.hex() == (
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    )


def test_a_sealed_part_can_be_opened_by_anybody_who_reads_the_document() -> None:
    """docs/hq.md describes the form; this is that description, carried out without our code."""
    key = bytes(range(32))
    event = {
        "type": MEMBER,
        "id": "0197-1",
        "data": {"receipt_number": "1", "member": "4711", "tier": {"b": 1, "a": 2}},
    }
    sealed = personal.sealed_data(key, MEMBER, "0197-1", event["data"], {"receipt_number"})
    import base64
    import hashlib

    assert sealed["receipt_number"] == "1"
    pseudonym = base64.urlsafe_b64encode(hashlib.sha256(b"tillgate person\0" + key).digest()[:12]).decode()
    for name, value in (("member", b'"4711"'), ("tier", b'{"a":2,"b":1}')):
        assert sealed[name]["tgsealed"] == pseudonym
        box = base64.b64decode(sealed[name]["siv"])
        assert AESSIV(key).decrypt(box, [MEMBER.encode(), b"0197-1", name.encode()]) == value
    assert personal.opened({**event, "data": sealed}, {pseudonym: key}.get) == event


def test_attack_sealed_part_moved_to_another_fact() -> None:
    """Somebody who can write puts a customer's sealed part into another fact, or changes it: it opens nowhere else."""
    key = personal.new_key()
    data = personal.sealed_data(key, MEMBER, "a", {"member": "4711"}, ())
    for event in (
        {"type": MEMBER, "id": "b", "data": data},
        {"type": "tillgate.other.v1", "id": "a", "data": data},
        {"type": MEMBER, "id": "a", "data": {"other": data["member"]}},
        {"type": MEMBER, "id": "a", "data": {"member": {**data["member"], "siv": "AAAA" + data["member"]["siv"][4:]}}},
        {"type": MEMBER, "id": "a", "data": {"member": {**data["member"], "siv": 7}}},
    ):
        with pytest.raises(personal.Unopenable):
            personal.opened(event, lambda _: key)


def test_the_marks_of_every_fact_make_sense() -> None:
    """One field says who it is; none stands deeper, where it would not be found; only tills report about people."""
    about_people = {name for name, row in FACTS.items() if about(row.data) is not None}
    assert about_people == {MEMBER}
    assert all(FACTS[name].from_till for name in about_people)

    def marks_below(model: type[BaseModel], seen: set[type]) -> None:
        for field in model.model_fields.values():
            for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
                    seen.add(part)
                    marks = [mark for inner in part.model_fields.values() for mark in inner.metadata]
                    assert not any(isinstance(mark, Personal) for mark in marks), part
                    marks_below(part, seen)

    for row in FACTS.values():
        marks_below(row.data, set())
    assert about(MemberIdentified) is not None
    assert about(SaleCompleted) is None


def test_a_bad_fact_about_a_person_is_refused_without_saying_what_was_in_it() -> None:
    """The reason stands in the log, in quarantine and in the reply."""
    event = member_event("4711-secret" * 20, 1)
    with pytest.raises(BadFact) as refused:
        check(event, event["source"])
    assert "4711" not in str(refused.value)
    assert str(refused.value).startswith("data.member: ")


async def test_the_journal_never_sees_the_member(tmp_path: Path) -> None:
    """Neither the field we know nor what a newer till adds; the fact is the same however often it comes."""
    store = await a_store(tmp_path / "store.db", Keyring.find(tmp_path))
    event = member_event("4711-0815", 1, member_name="Erika Mustermann", points=12)
    first, again = await take(store, event, event)
    (later,) = await take(store, orjson.loads(orjson.dumps(event)))
    await store.close()
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert isinstance(later, Accepted)
    assert (first.seq, again.seq, later.seq) == (1, 1, 1)
    assert (first.repeated, again.repeated, later.repeated) == (False, True, True)
    for file in tmp_path.iterdir():
        assert b"4711-0815" not in file.read_bytes(), file
        assert b"Mustermann" not in file.read_bytes(), file
    assert verify(tmp_path / "store.db").ok


async def test_the_same_fact_with_another_member_is_a_conflict(tmp_path: Path) -> None:
    store = await a_store(tmp_path / "store.db", Keyring.find(tmp_path))
    await take(store, member_event("4711", 1, id_="a"))
    (other,) = await take(store, member_event("4712", 1, id_="a"))
    (same_number,) = await take(store, member_event("4711", 1, id_="b"))
    await store.close()
    assert isinstance(other, Conflict)
    assert other.kind == "id"
    assert isinstance(same_number, Conflict)
    assert same_number.kind == "sequence"
    assert verify(tmp_path / "store.db").ok


async def test_a_person_has_one_key_over_lanes_restarts_and_crowded_commits(tmp_path: Path) -> None:
    keyring, path = Keyring.find(tmp_path), tmp_path / "store.db"
    store = await a_store(path, keyring)
    events = [member_event(f"m{number % 7}", number) for number in range(1, 200)]
    await take(store, *events)
    await store.close()
    store = await a_store(path, keyring)
    await take(store, *(member_event(f"m{number % 7}", number, lane="2") for number in range(1, 50)), lane="2")
    repeated = await take(store, *events[:20])
    await store.close()
    assert all(isinstance(one, Accepted) and one.repeated for one in repeated)
    assert rows(path, "SELECT count(*) FROM subjects") == [(7,)]
    found = rows(path, "SELECT plain(class, seq, body) FROM facts WHERE class = 'engagement'")
    bodies = [orjson.loads(body) for (body,) in found]
    assert len({body["data"]["member"]["tgsealed"] for body in bodies}) == 7


async def test_a_key_is_on_disk_in_the_commit_of_the_first_fact_that_needs_it(tmp_path: Path) -> None:
    """A commit that fails leaves neither: a fact without its key could never be read."""
    path = tmp_path / "store.db"
    store = await a_store(path, Keyring.find(tmp_path))
    fact = checked(member_event("4711", 1))
    await store.write([("CREATE TRIGGER no_facts BEFORE INSERT ON facts WHEN NEW.type LIKE '%member%' BEGIN"
                        " SELECT RAISE(ABORT, 'cut off'); END", ())])  # fmt: skip
    with pytest.raises(Exception, match="cut off"):
        await store.append(fact)
    await store.close()
    assert rows(path, "SELECT count(*) FROM subjects") == [(0,)]
    assert rows(path, "SELECT count(*) FROM facts WHERE class = 'engagement'") == [(0,)]


async def test_a_full_disk_makes_no_key_and_still_knows_a_repeat(tmp_path: Path) -> None:
    free = [10**12]
    store = await a_store(tmp_path / "store.db", Keyring.new(), free_bytes=lambda: free[0])
    event = member_event("4711", 1)
    await take(store, event)
    free[0] = 0
    (again,) = await take(store, event)
    assert isinstance(again, Accepted)
    assert again.repeated
    with pytest.raises(StorageFull):
        await take(store, member_event("4712", 2))
    await store.close()
    assert rows(tmp_path / "store.db", "SELECT count(*) FROM subjects") == [(1,)]


async def test_facts_that_are_about_nobody_are_recorded_as_they_were(tmp_path: Path) -> None:
    """Byte for byte, and no table of people is touched."""
    store = await a_store(tmp_path / "store.db", Keyring.find(tmp_path))
    sale = sale_event(1)
    await asyncio.gather(store.append(checked(sale)))
    await store.close()
    ((body,),) = rows(tmp_path / "store.db", "SELECT plain(class, seq, body) FROM facts WHERE class = 'transaction'")
    assert json.loads(body)["data"] == sale["data"]
    assert rows(tmp_path / "store.db", "SELECT count(*) FROM subjects") == [(0,)]
