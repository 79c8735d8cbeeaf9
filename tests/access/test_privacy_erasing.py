"""Erasing a person: the key is gone from every file, the chain still holds, and it stays so whatever comes later."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.bus.messages.personal import Person
from edge.journal import personal, quarantine
from edge.journal.audit import verify
from edge.journal.reader import connect
from edge.journal.store import Accepted, Conflict, Store
from edge.journal.subjects import Keys
from edge.seal import Keyring, sealed_by
from tests.access.privacy_rig import a_store, files_with, member_event, rows, take

ANNA, BERT = Person("member", "4711-0815"), Person("member", "4711-0816")


@pytest.fixture
def keyring(path: Path) -> Keyring:
    return Keyring.find(path.parent)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "store.db"


async def traces(store: Store, person: Person) -> tuple[bytes, ...]:
    """What must not be found anywhere once the person is erased."""
    (found,) = await store.subjects(person)
    return (found.key, found.sealed, found.lookup, person.name.encode())


async def engagement(store: Store) -> list[dict[str, Any]]:
    found = await store.fetch_all("SELECT plain(class, seq, body) FROM facts WHERE class = 'engagement' ORDER BY seq")
    return [orjson.loads(body) for (body,) in found]


async def test_attack_disk_searched_for_an_erased_customer(path: Path, keyring: Keyring) -> None:
    """Somebody has the disk and the master key and searches every byte, free pages and logs too: no key is left."""
    store = await a_store(path, keyring)
    everybody = [ANNA, BERT, *(Person("member", f"other-{number}") for number in range(400))]
    await take(store, *(member_event(one.name, number) for number, one in enumerate(everybody, 1)))
    await take(store, *(member_event(one.name, number) for number, one in enumerate(everybody, 1001)))
    anna, bert = await traces(store, ANNA), await traces(store, BERT)
    kept = await traces(store, everybody[200])
    assert files_with(path.parent, anna[1])

    erasure = await store.erase(ANNA)

    assert erasure.folded
    assert erasure.pseudonyms == (personal.pseudonym_of(anna[0]),)
    assert files_with(path.parent, *anna[:2], anna[3]) == []
    with path.open("rb") as file:  # its digest may stand in the list of the erased, and there only once
        assert file.read().count(anna[2]) == 1
    assert files_with(path.parent, bert[1])
    assert files_with(path.parent, kept[1])
    assert path.with_name("store.db-wal").stat().st_size == 0
    assert await store.subjects(ANNA) == []
    assert len(await store.subjects(BERT)) == 1
    await store.close()
    assert files_with(path.parent, *anna[:2], anna[3]) == []
    report = verify(path)
    assert report.ok
    assert sum(one.count for one in report.classes) == 2 * len(everybody) + 2  # the gap, and that she was erased


async def test_what_was_erased_is_unreadable_and_the_rest_is_not(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1, points=3), member_event(BERT.name, 2, points=4))
    before = await engagement(store)
    await store.erase(ANNA)
    after = await engagement(store)
    assert after == before
    with closing(connect(path)) as db:
        there = Keys(path.parent).of(db, [event["data"]["member"]["tgsealed"] for event in after])
    plain = [personal.opened(event, there.get)["data"] for event in after]
    assert plain[0] == after[0]["data"]
    assert plain[1] == {"receipt_number": "000002", "member": BERT.name, "points": 4}
    (said,) = await store.fetch_all(
        "SELECT plain(class, seq, body) FROM facts WHERE type = 'tillgate.subject.erased.v1'"
    )
    assert orjson.loads(said[0])["data"] == {"subject": after[0]["data"]["member"]["tgsealed"]}
    await store.close()


async def test_a_fact_that_comes_afterwards_is_kept_without_the_person(path: Path, keyring: Keyring) -> None:
    """A till that was away for days must not bring them back; nor must its repeat be taken for another fact."""
    store = await a_store(path, keyring)
    first = member_event(ANNA.name, 1)
    await take(store, first)
    await store.erase(ANNA)
    late, again, late_again = await take(store, member_event(ANNA.name, 2, id_="late"), first, member_event("x", 3))
    assert isinstance(late, Accepted)
    assert isinstance(again, Accepted)
    assert isinstance(late_again, Accepted)
    assert (again.seq, again.repeated) == (1, True)
    events = await engagement(store)
    assert events[1]["data"] == {"receipt_number": "000002", "member": {"tgsealed": None}}
    other = {**first, "data": {**first["data"], "receipt_number": "999999"}}
    (conflict,) = await take(store, other)
    assert isinstance(conflict, Conflict)
    await store.close()
    assert rows(path, "SELECT count(*) FROM subjects") == [(1,)]
    assert files_with(path.parent, ANNA.name.encode()) == []
    assert verify(path).ok


async def test_somebody_nobody_knows_can_be_erased_in_advance(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    erasure = await store.erase(ANNA)
    assert erasure.pseudonyms == ()
    await take(store, member_event(ANNA.name, 1))
    assert (await engagement(store))[0]["data"]["member"] == {"tgsealed": None}
    assert await store.fetch_all("SELECT 1 FROM facts WHERE type = 'tillgate.subject.erased.v1'") == []
    await store.close()


async def test_an_erased_person_can_be_taken_as_a_person_again(path: Path, keyring: Keyring) -> None:
    """A number that was erased by mistake, or is given out again: known from now on, not as of before."""
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1))
    old = await traces(store, ANNA)
    await store.erase(ANNA)
    assert await store.readmit(ANNA)
    assert not await store.readmit(ANNA)
    await take(store, member_event(ANNA.name, 2))
    new = await traces(store, ANNA)
    assert new[0] != old[0]
    await store.close()
    store = await a_store(path, keyring)  # and the list agrees
    assert len(await store.subjects(ANNA)) == 1
    await store.close()


async def test_bad_input_that_names_the_person_goes_with_them(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1))
    for payload in (
        b'{"member": "4711-0815"',
        "Kundin 4711-0815 möchte".encode(),
        b'{"member": "14711-0815", "of somebody else": true}',
        b"nothing",
    ):
        store.quarantine(origin="lanes/1/facts", lane="1", code="bad_message", reason="not JSON", payload=payload)
    await store.write(())
    erasure = await store.erase(ANNA)
    assert erasure.quarantined == 2
    kept = await store.fetch_all("SELECT fingerprint, payload FROM quarantine ORDER BY id")
    left = [store.plain(quarantine.PLACE, row[:1], row[1]) for row in kept]
    assert left == [b'{"member": "14711-0815", "of somebody else": true}', b"nothing"]
    assert files_with(path.parent, b'"4711-0815"', b"Kundin 4711") == []
    await store.close()


async def test_attack_snapshot_put_back_after_an_erasure(path: Path, keyring: Keyring, tmp_path: Path) -> None:
    """Somebody puts an older copy of the store in its place: it still has the key, and loses it as it is opened."""
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1), member_event(BERT.name, 2))
    anna = await traces(store, ANNA)
    await store.close()
    shutil.copyfile(path, tmp_path / "snapshot.db")
    store = await a_store(path, keyring)
    await store.erase(ANNA)
    await store.close()

    shutil.copyfile(tmp_path / "snapshot.db", path)
    assert files_with(path.parent, anna[1])
    store = await a_store(path, keyring)
    assert await store.subjects(ANNA) == []
    assert len(await store.subjects(BERT)) == 1
    assert files_with(path.parent, *anna[:2]) == []
    await take(store, member_event(ANNA.name, 3))
    assert (await engagement(store))[-1]["data"]["member"] == {"tgsealed": None}
    await store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from edge.seal import Keyring
from tests.access.privacy_rig import a_store, member_event, take

async def main():
    path = Path(sys.argv[1])
    store = await a_store(path, Keyring.find(path.parent))
    for number in range(1, 100_000, 3):
        await take(store, *(member_event(f"m{one}", one) for one in range(number, number + 3)))
        print(number + 2, flush=True)

asyncio.run(main())
"""


async def test_a_gateway_killed_at_any_moment_has_the_key_of_every_fact(path: Path, keyring: Keyring) -> None:
    """SIGKILL while facts about customers nobody knew are coming in: whatever is there can be read."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert writer.stdout is not None
    accepted = 0
    while accepted < 60:
        accepted = int(await asyncio.wait_for(writer.stdout.readline(), 60))
    writer.kill()
    accepted = max([accepted, *map(int, (await writer.stdout.read()).split(b"\n")[:-1])])
    await writer.wait()
    store = await a_store(path, keyring)
    events = await engagement(store)
    assert len(events) >= accepted
    with closing(connect(path)) as db:
        there = Keys(path.parent).of(db, [event["data"]["member"]["tgsealed"] for event in events])
    assert [personal.opened(event, there.get)["data"]["member"] for event in events] == [
        f"m{number}" for number in range(1, len(events) + 1)
    ]
    assert await store.fetch_all("SELECT count(*) FROM subjects") == [(len(events),)]
    await store.close()


async def test_a_list_that_was_lost_is_written_anew_and_one_cut_off_does_no_harm(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1))
    await store.erase(ANNA)
    await store.erase(BERT)
    await store.close()
    listed = path.with_suffix(".erased")
    assert listed.stat().st_mode & 0o777 == 0o600
    whole = listed.read_bytes()
    listed.write_bytes(whole[:-20])
    await (await a_store(path, keyring)).close()
    listed.unlink()
    await (await a_store(path, keyring)).close()
    assert sorted(listed.read_bytes().splitlines()) == sorted(whole.splitlines())


async def test_the_keys_of_a_damaged_file_are_carried_over_and_erased_there_too(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    events = [member_event(f"m{number}", number) for number in range(1, 300)]
    await take(store, member_event(ANNA.name, 1000), *events)
    anna = await traces(store, ANNA)
    await store.close()
    with closing(sqlite3.connect(path)) as db, db:  # a row that no longer fits the chain
        db.execute("UPDATE facts SET hash = zeroblob(32) WHERE class = 'engagement' AND seq = 290")
        db.commit()
    store = await a_store(path, keyring)
    assert store.salvaged is not None
    repeated = await take(store, *events[:5], member_event("m7", 2000))
    assert all(isinstance(one, Accepted) for one in repeated)
    assert [one.repeated for one in repeated if isinstance(one, Accepted)] == [True] * 5 + [False]
    assert await traces(store, ANNA) == anna
    assert store.salvaged.path.name in " ".join(files_with(path.parent, anna[1]))

    erasure = await store.erase(ANNA)

    assert erasure.unsearched == ()
    assert files_with(path.parent, anna[0], anna[1]) == []
    assert files_with(path.parent, (await traces(store, Person("member", "m7")))[1])
    await store.close()


async def test_a_new_master_key_seals_the_keys_anew(path: Path, keyring: Keyring) -> None:
    """The former master key can go: nothing is sealed with it any more, and people are who they were."""
    store = await a_store(path, keyring)
    events = [member_event(f"m{number}", number) for number in range(1, 1200)]
    await take(store, *events)
    await store.erase(Person("member", "m500"))
    before = await traces(store, Person("member", "m7"))
    await store.close()

    both = keyring.with_new_key()
    store = await a_store(path, both)
    assert await store.reseal_subjects() == 1198
    assert files_with(path.parent, before[1]) == []
    await store.close()

    sealed = [row[0] for row in rows(path, "SELECT sealed FROM subjects UNION ALL SELECT sealed FROM subjects_secret")]
    assert {sealed_by(one) for one in sealed} == {both.current.id}
    store = await a_store(path, both)
    assert (await traces(store, Person("member", "m7")))[0] == before[0]
    again = await take(store, *events)
    assert all(isinstance(one, Accepted) and one.repeated for one in again)
    await store.close()


async def test_a_key_that_cannot_be_opened_holds_up_no_till(path: Path, keyring: Keyring) -> None:
    """The customer gets another; once the former can be opened, what it sealed is theirs again, and erased too."""
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1))
    (before,) = await store.subjects(ANNA)
    spoilt = ("UPDATE subjects SET sealed = ? WHERE pseudonym = ?", (bytes(len(before.sealed)), before.pseudonym))
    await store.write([spoilt])
    (second,) = await take(store, member_event(ANNA.name, 2))
    assert isinstance(second, Accepted)
    (now,) = await store.subjects(ANNA)
    assert now.pseudonym != before.pseudonym
    assert (await store.erase(BERT)).closed == 1

    await store.write([("UPDATE subjects SET sealed = ? WHERE pseudonym = ?", (before.sealed, before.pseudonym))])
    assert [one.pseudonym for one in await store.subjects(ANNA)] == [before.pseudonym, now.pseudonym]
    erasure = await store.erase(ANNA)
    assert (erasure.pseudonyms, erasure.closed) == ((before.pseudonym, now.pseudonym), 0)
    assert files_with(path.parent, before.sealed, now.sealed) == []
    await store.close()


async def test_a_secret_that_cannot_be_opened_holds_up_no_till(path: Path, keyring: Keyring) -> None:
    store = await a_store(path, keyring)
    await take(store, member_event(ANNA.name, 1))
    await store.write([("UPDATE subjects_secret SET sealed = zeroblob(60)", ())])
    await store.close()
    store = await a_store(path, keyring)
    (again,) = await take(store, member_event(ANNA.name, 2))
    assert isinstance(again, Accepted)
    assert len(await store.subjects(ANNA)) == 2
    assert len((await store.erase(ANNA)).pseudonyms) == 2
    await store.close()
