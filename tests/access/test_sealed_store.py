"""What lies in the store's files is sealed; older files are sealed in the background; a missing key stops nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from edge.access.master_keys import MasterKeys
from edge.bus.messages.facts import FactClass
from edge.daemon import SCHEMAS, SEALED
from edge.devices.print_ledger import PrintLedger
from edge.journal.audit import verify
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.sealing import PLAIN, keys_of
from edge.journal.store import Accepted, Store
from edge.seal import KEY_FILE, Keyring, MasterKey, Unsealable, sealed_by, write_secret
from edge.services.warnings import Warnings
from tests.access.privacy_rig import files_with
from tests.edge.journal_facts import fact
from tests.edge.test_store_upgrade import restored

SALES = FactClass.TRANSACTION
PLANTED = b"planted-Pfirsiche"


async def opened(path: Path, store_id: str = "s1") -> Store:
    return await Store.open(path, store_id, clock=Clock(), schemas=SCHEMAS, reserve_bytes=0)


async def sold(path: Path, first: int, last: int) -> str:
    """Sales `first` to `last`; the epoch."""
    store = await opened(path)
    for number in range(first, last + 1):
        outcome = await store.record(fact("3", number, text=f"{PLANTED.decode()} {number}", id_=f"sale-{number}"))
        assert isinstance(outcome, Accepted)
    await store.close()
    return store.epoch


async def test_nothing_that_was_sold_is_readable_in_any_file(tmp_path: Path) -> None:
    store = await opened(tmp_path / "store.db")
    for number in range(1, 50):
        await store.record(fact("3", number, text=f"{PLANTED.decode()} {number}"))
    reason = f"data.lines.0.text: too long (found '{PLANTED.decode()}')"
    store.quarantine(origin="x", lane="3", code="bad_message", reason=reason, payload=b"{" + PLANTED)
    await store.write([])
    assert files_with(tmp_path, PLANTED) == [], "the write-ahead log too"
    reader = await Reader.open(tmp_path / "store.db")
    rows = await reader.tail(SALES, 0)
    assert [orjson.loads(row.body)["data"]["text"] for row in rows][:1] == [f"{PLANTED.decode()} 1"]
    (bad,) = await reader.quarantine()
    assert (bad.payload, bad.reason) == (b"{" + PLANTED, "data.lines.0.text: too long")
    await reader.close()
    await store.close()
    assert files_with(tmp_path, PLANTED) == []
    assert verify(tmp_path / "store.db").ok


async def test_an_older_store_is_sealed_in_the_background(tmp_path: Path) -> None:
    """Facts, receipts, remembered answers and bad input that an earlier version left in plain."""
    path = restored(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        bodies = dict(db.execute("SELECT row, body FROM facts").fetchall())
        needle = b'"specversion"'
        db.execute("UPDATE requests SET answer = CAST('planted-answer' AS BLOB)")
        answers = db.execute("SELECT lane, id, answer FROM requests ORDER BY lane, id").fetchall()
        jobs = db.execute("SELECT lane, job, content FROM print_jobs ORDER BY row").fetchall()
        db.commit()
        assert bodies
        assert jobs
        assert answers
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert files_with(tmp_path, needle)
    assert verify(path).ok, "readable as it is"
    store = await opened(path)
    assert store.salvaged is None
    assert verify(path).ok, "half of it sealed, half of it not"
    assert await store.reseal(SEALED, pause_s=0) == len(bodies) + len(jobs) + len(answers)
    assert await store.reseal(SEALED, pause_s=0) == 0, "once is enough"
    found = await store.fetch_all("SELECT row, plain(class, seq, body), body FROM facts ORDER BY row")
    assert {row: bytes(plain) for row, plain, _ in found} == bodies
    assert all(sealed_by(stored) == store.keyring.current.id for _, _, stored in found)
    printed, remembered = SEALED
    assert [
        (lane, job, store.plain(printed, (lane, job), content))
        for lane, job, content in await store.fetch_all("SELECT lane, job, content FROM print_jobs ORDER BY row")
    ] == jobs
    assert [
        (lane, id_, store.plain(remembered, (lane, id_), answer))
        for lane, id_, answer in await store.fetch_all("SELECT lane, id, answer FROM requests ORDER BY lane, id")
    ] == answers
    await store.close()
    assert (
        files_with(tmp_path, needle, b"planted-answer", *(content for _, _, content in jobs if len(content) > 8)) == []
    )
    report = verify(path)
    assert report.ok
    with closing(sqlite3.connect(path)) as db:
        assert keys_of(db) == {report.epoch: {store.keyring.current.id}}


async def test_sales_go_on_while_older_facts_are_sealed(tmp_path: Path) -> None:
    path = restored(tmp_path)
    store = await opened(path)
    walk = asyncio.create_task(store.reseal(SEALED, pause_s=0))
    outcomes = [await store.record(fact("1", 1_000 + number)) for number in range(30)]
    await walk
    await store.close()
    assert all(isinstance(one, Accepted) for one in outcomes)
    assert verify(path).ok


async def test_rotation_seals_anew_and_the_old_key_is_needed_no_more(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    epoch = await sold(path, 1, 100)
    old = Keyring.find(tmp_path)
    write_secret(tmp_path / KEY_FILE, old.with_new_key().text().encode())
    await sold(path, 101, 120)
    store = await opened(path)
    assert store.epoch == epoch
    assert await store.reseal(SEALED, pause_s=0) == 100
    await store.close()
    write_secret(tmp_path / KEY_FILE, Keyring.find(tmp_path).without(old.current.id).text().encode())
    store = await opened(path)
    assert (store.epoch, store.salvaged) == (epoch, None)
    await store.close()
    assert verify(path).ok


async def test_a_lost_key_stops_no_sale_and_what_it_sealed_is_read_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first = await sold(path, 1, 30)
    lost = (tmp_path / KEY_FILE).read_text()
    (tmp_path / KEY_FILE).unlink()

    store = await opened(path)
    assert store.epoch != first
    assert store.salvaged is not None
    assert "key that is missing" in store.salvaged.reason
    assert store.salvaged.path.exists(), "set aside, not deleted"
    assert store.salvaged.facts == 30
    repeated = await store.record(fact("3", 7, text=f"{PLANTED.decode()} 7", id_="sale-8"))
    assert not isinstance(repeated, Accepted), "lanes go on counting from where they were"
    assert (await store.record(fact("3", 31))).epoch == store.epoch
    warnings = Warnings()
    await MasterKeys(store, warnings, SEALED).tell()
    (warning,) = warnings.shown()
    assert Keyring.from_text(lost).current.id in warning.text

    reader = await Reader.open(path)
    with pytest.raises(Unsealable):
        await reader.tail(SALES, 0, epoch=first)
    assert len(await reader.tail(SALES, 0)) == 2
    await store.close()
    store = await opened(path)
    assert store.salvaged is None, "once is enough"
    await store.close()

    now = Keyring.find(tmp_path)
    write_secret(tmp_path / KEY_FILE, (now.text() + lost).encode())
    found = []
    while not found:  # the same reader: it looks for the key again, though not at every row
        try:
            found = await reader.tail(SALES, 0, epoch=first)
        except Unsealable:
            await asyncio.sleep(0.1)
    assert [row.id for row in found] == [f"sale-{number}" for number in range(1, 31)]
    await reader.close()
    store = await opened(path)
    await MasterKeys(store, warnings, SEALED).tell()
    assert warnings.shown() == ()
    assert await store.reseal(SEALED, pause_s=0) == 30
    with closing(sqlite3.connect(path)) as db:
        assert keys_of(db) == {store.epoch: {now.current.id}, first: {now.current.id}}
    await store.close()
    assert verify(path).ok


async def test_a_spoilt_key_file_is_told_and_the_store_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await sold(path, 1, 3)
    (tmp_path / KEY_FILE).write_text("tgk1:rubbish\n")
    store = await opened(path)
    warnings = Warnings()
    await MasterKeys(store, warnings, SEALED).tell()
    assert [warning.code for warning in warnings.shown()] == ["seal_key.1", "seal_key_missing"]
    assert isinstance(await store.record(fact("3", 4)), Accepted)
    await store.close()


async def test_facts_put_there_in_plain_are_not_believed(tmp_path: Path) -> None:
    """With hashes that fit, and with a row that says that things in plain are all right: it is not sealed."""
    path = restored(tmp_path)
    store = await opened(path)
    await store.reseal(SEALED, pause_s=0)
    await store.record(fact("1", 5_000, id_="the-last"))
    epoch = store.epoch
    await store.close()
    forged = MasterKey.new()
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO seal_keys VALUES (?, ?, 1, '', NULL)", (epoch, PLAIN))
        db.execute("UPDATE facts SET body = ? WHERE id = 'the-last'", (b'{"forged":true}',))
        db.commit()
    report = verify(path)
    assert any("put there" in problem for one in report.classes for problem in one.problems)
    assert forged.id not in str(report)
    store = await opened(path)
    assert store.salvaged is not None
    assert "put there" in store.salvaged.reason
    await store.close()


async def test_attack_rows_planted_in_plain(tmp_path: Path) -> None:
    """Somebody who can write to the disk puts a remembered answer and a receipt there in plain, with a row that says
    that this is all right: nobody is answered so, nothing is printed, and it is never sealed as if it were ours.
    """
    path = tmp_path / "store.db"
    await sold(path, 1, 3)
    planted = b'{"ok": true, "planted": true}'
    with closing(sqlite3.connect(path)) as db:
        (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        db.execute("INSERT INTO seal_keys VALUES (?, ?, 1, '', ?)", (epoch, PLAIN, b"{}"))
        db.execute("INSERT INTO requests VALUES ('1', 'r1', 'print', x'00', '', ?, 0)", (planted,))
        db.execute(
            "INSERT INTO print_jobs(lane, job, device, state, ended, proven, reason, digest, content, replaced, token,"
            " attempts, created_at, boot, expires_ms) VALUES ('1', 'j1', 'printer-1', 'queued', 0, 0, '', x'00', ?, '',"
            " x'21212121', 0, '', ?, 999999999999)",
            (planted, Clock().now().boot),
        )
        db.commit()
    store = await opened(path)
    assert store.salvaged is None
    _, remembered = SEALED
    for _ in range(2):
        with pytest.raises(Unsealable, match="put there"):
            store.plain(remembered, ("1", "r1"), planted)
        (job,) = await PrintLedger(store).unended()
        assert (job.content, job.boot) == (b"", ""), "as of an earlier boot: it is not printed"
        assert await store.reseal(SEALED, pause_s=0) == 0
    assert await store.fetch_all("SELECT content FROM print_jobs") == [(planted,)]
    await store.close()
