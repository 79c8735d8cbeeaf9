"""A till's ledger: sealed on its disk, taken over from before, and a till that sells on whatever becomes of its key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from edge.seal import KEY_FILE, Keyring, is_sealed, write_secret
from edge.till.ledger import SEALED_AT_ONCE, Answer, FactState, Ledger
from tests.access.privacy_rig import files_with

TENDER = "tillgate.tender.taken.v1"
PLANTED = "planted-Pfirsiche"


async def opened(path: Path, keyring: Keyring | None = None) -> Ledger:
    return await Ledger.open(path, "s1", "1", keyring)


async def sold(ledger: Ledger, count: int = 1) -> None:
    for number in range(count):
        await ledger.add(TENDER, {"amount_minor": number, "note": PLANTED})


def before_there_were_seals(path: Path, count: int) -> dict[int, bytes]:
    """A file as an earlier version made it; its bodies."""
    schema = (Path(__file__).parents[2] / "edge/till/ledger.sql").read_text()
    bodies = {number: b'{"sequence":%d,"note":"%s"}' % (number, PLANTED.encode()) for number in range(1, count + 1)}
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(schema)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("store", "s1"), ("lane", "1")])
        db.executemany(
            "INSERT INTO facts (sequence, id, type, body, made_at) VALUES (?, 'id-' || ?, 't', ?, '')",
            [(number, number, body) for number, body in bodies.items()],
        )
        db.commit()
    return bodies


async def test_nothing_that_was_sold_is_readable_on_the_tills_disk(tmp_path: Path) -> None:
    ledger = await opened(tmp_path / "till.db")
    await sold(ledger, 20)
    assert files_with(tmp_path, PLANTED.encode()) == []
    assert [orjson.loads(fact.body)["data"]["note"] for fact in await ledger.pending()] == [PLANTED] * 20
    await ledger.close()
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def test_a_key_that_is_handed_in_is_not_on_the_disk(tmp_path: Path) -> None:
    keyring = Keyring.new()
    ledger = await opened(tmp_path / "till.db", keyring)
    await sold(ledger)
    await ledger.close()
    assert not (tmp_path / KEY_FILE).exists()
    ledger = await opened(tmp_path / "till.db", keyring)
    assert len(await ledger.pending()) == 1
    await ledger.close()


async def test_a_ledger_from_before_is_taken_over_and_sealed_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "till.db"
    count = SEALED_AT_ONCE + 10
    bodies = before_there_were_seals(path, count)
    ledger = await opened(path)
    await sold(ledger)
    pending = await ledger.pending()
    assert {fact.sequence: fact.body for fact in pending[:-1]} == bodies, "the same bytes as before"
    for sequence in (1, 2, 3):
        await ledger.settle([Answer(sequence, FactState.ACCEPTED, {})])
    assert {fact.sequence: fact.body for fact in await ledger.pending()} == {
        fact.sequence: fact.body for fact in pending[3:]
    }
    await ledger.close()
    with closing(sqlite3.connect(path)) as db:
        assert all(is_sealed(body) for (body,) in db.execute("SELECT body FROM facts"))
    assert files_with(tmp_path, PLANTED.encode()) == [], "nor in what the file has left of it"


async def test_a_till_whose_key_is_lost_sells_on_and_sends_the_rest_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "till.db"
    ledger = await opened(path)
    await sold(ledger, 3)
    await ledger.close()
    lost = (tmp_path / KEY_FILE).read_text()
    (tmp_path / KEY_FILE).unlink()
    ledger = await opened(path)
    await sold(ledger, 2)
    assert [fact.sequence for fact in await ledger.pending()] == [4, 5], "numbers go on"
    assert sorted(ledger.unreadable) == [1, 2, 3]
    assert all("not in the keyring" in why for why in ledger.unreadable.values())
    await ledger.close()
    write_secret(tmp_path / KEY_FILE, (Keyring.find(tmp_path).text() + lost).encode())
    ledger = await opened(path)
    assert [fact.sequence for fact in await ledger.pending()] == [1, 2, 3, 4, 5]
    assert ledger.unreadable == {}
    await ledger.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE facts SET body = CAST(x'c1' || zeroblob(60) AS BLOB) WHERE sequence = 2",
        "UPDATE facts SET body = (SELECT body FROM facts WHERE sequence = 1) WHERE sequence = 2",
        "UPDATE facts SET body = CAST('{\"forged\":true}' AS BLOB) WHERE sequence = 2",
    ],
)
async def test_attack_tampered_till_ledger(tmp_path: Path, change: str) -> None:
    """Somebody changes, swaps or plants a sale on the till's disk: it is named and not sent, the others go on."""
    path = tmp_path / "till.db"
    ledger = await opened(path)
    await sold(ledger, 3)
    await ledger.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(change)
        db.commit()
    ledger = await opened(path)
    assert [fact.sequence for fact in await ledger.pending()] == [1, 3]
    assert list(ledger.unreadable) == [2]
    await ledger.close()
