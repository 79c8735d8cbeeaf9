"""Attacks on what lies on the disk: a copied card, a tampered journal; see also test_sealed_ledger, test_snapshot."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.access.authority_keys import AuthorityFault
from edge.access.broker_identity import ensure_broker_identity, open_authority
from edge.bus.messages.facts import FactClass
from edge.config import load
from edge.daemon import SCHEMAS, SEALED
from edge.devices.print_ledger import Job
from edge.journal import chain
from edge.journal.audit import verify
from edge.journal.clock import Clock
from edge.journal.sealing import Bodies
from edge.journal.store import Store
from edge.seal import CREDENTIAL, Keyring
from tests.access.privacy_rig import checked, files_with, member_event
from tests.access.store_rig import csr, lane_key
from tests.edge.journal_facts import fact

SALES = FactClass.TRANSACTION
SOLD, PRINTED, ANSWERED, REFUSED, MEMBER = (
    b"planted-sold", b"planted-printed", b"planted-answered", b"planted-refused", "planted-4711-0815",
)  # fmt: skip


async def opened(path: Path) -> Store:
    return await Store.open(path, "s1", clock=Clock(), schemas=SCHEMAS, reserve_bytes=0)


async def sold(store: Store, first: int, last: int) -> None:
    facts = [fact("3", number, text=f"{SOLD.decode()} {number}") for number in range(first, last + 1)]
    await asyncio.gather(*(store.append(one) for one in facts))


async def test_attack_copied_sd_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody copies the state directory of a box whose key is a credential: no sale, receipt, answer, bad input,
    member or authority key can be read; run elsewhere it certifies nobody, and counts as another life of the store.
    """
    file = tmp_path / "store.toml"
    file.write_text('state_dir = "state"\n[store]\nid = "s1"\n[bus]\nport = 8883\n[[lanes]]\nid = "3"\n')
    config, credentials = load(file), tmp_path / "credentials"
    credentials.mkdir()
    (credentials / CREDENTIAL).write_text(Keyring.new().text())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    config.state_dir.mkdir()
    identity = ensure_broker_identity(config)
    store = await opened(config.store_db)
    await sold(store, 1, 100)
    await store.record(checked(member_event(MEMBER, 1)))
    store.quarantine(origin="x", lane="3", code="bad_message", reason="not JSON", payload=b"{" + REFUSED)
    job = Job("3", "job", "printer", b"", PRINTED * 9, b"abcd", "boot", 0, "")
    answer = store.sealed(SEALED[1], ("3", "r"), ANSWERED)
    columns = "lane, id, operation, digest, asked_at, answer"
    await store.write(
        [
            job.insert(store),
            (f"INSERT INTO requests ({columns}) VALUES ('3', 'r', 'x', x'', '', ?)", (answer,)),
        ]
    )
    authority = open_authority(config)
    copied = tmp_path / "card" / "state"
    shutil.copytree(config.state_dir, copied)  # while it runs: with its write-ahead log
    assert (copied / "store.db-wal").stat().st_size > 0
    await store.close()
    shutil.copytree(config.state_dir, tmp_path / "card" / "at rest")

    planted = (SOLD, PRINTED, ANSWERED, REFUSED, MEMBER.encode(), b"unit_price", b"tgk1:")
    assert files_with(tmp_path / "card", *planted) == []
    with_a_key = {name.split(":")[0].split("/")[-1] for name in files_with(tmp_path / "card", b"PRIVATE KEY")}
    assert with_a_key <= {identity.key.name}, "the broker's own, which is short-lived; never the authority's"

    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    file = tmp_path / "card" / "store.toml"
    file.write_text((tmp_path / "store.toml").read_text())
    elsewhere = open_authority(load(file))
    assert elsewhere.fault is not None
    with pytest.raises(AuthorityFault):
        elsewhere.issue_lane("3", csr(lane_key()))
    assert elsewhere.fingerprint == authority.fingerprint, "nor is there a new one that tills would be led to"
    twin = await opened(copied / "store.db")
    assert twin.epoch != store.epoch, "HQ tells the two apart by their epochs and shows the store as a twin"
    assert twin.salvaged is not None
    with pytest.raises(sqlite3.OperationalError):
        await twin.fetch_all("SELECT plain(class, seq, body) FROM salvaged")
    await twin.close()


def _changed_body(db: sqlite3.Connection, epoch: str) -> None:
    (body,) = db.execute("SELECT body FROM facts WHERE class = 'transaction' AND seq = 5").fetchone()
    db.execute(
        "UPDATE facts SET body = ? WHERE class = 'transaction' AND seq = 5", (body[:-20] + bytes(1) + body[-19:],)
    )


def _changed_hash(db: sqlite3.Connection, epoch: str) -> None:
    db.execute("UPDATE facts SET hash = randomblob(32) WHERE class = 'transaction' AND seq = 5")


def _recomputed(db: sqlite3.Connection, epoch: str) -> None:
    """All of it in plain, with hashes that fit from the first to the last."""
    previous = chain.genesis(epoch, "transaction")
    for (seq,) in db.execute("SELECT seq FROM facts WHERE class = 'transaction' ORDER BY seq").fetchall():
        body = b'{"data":{"total_minor":1},"id":"%d","tgclass":"transaction","tgseq":%d}' % (seq, seq)
        previous = chain.link(previous, body)
        db.execute("UPDATE facts SET body = ?, hash = ? WHERE class = 'transaction' AND seq = ?", (body, previous, seq))


def _with_another_key(db: sqlite3.Connection, epoch: str) -> None:
    """The same, sealed by a key of the attacker's."""
    _recomputed(db, epoch)
    theirs = Bodies.by(Keyring.new())
    for seq, body in db.execute("SELECT seq, body FROM facts WHERE class = 'transaction'").fetchall():
        sealed = theirs.sealed(epoch, "transaction", seq, body)
        db.execute("UPDATE facts SET body = ? WHERE class = 'transaction' AND seq = ?", (sealed, seq))


def _swapped(db: sqlite3.Connection, epoch: str) -> None:
    for old, new in ((5, -1), (6, 5), (-1, 6)):
        db.execute("UPDATE facts SET seq = ? WHERE class = 'transaction' AND seq = ?", (new, old))


def _bodies_swapped(db: sqlite3.Connection, epoch: str) -> None:
    five, six = db.execute("SELECT body FROM facts WHERE class = 'transaction' AND seq IN (5, 6) ORDER BY seq")
    for seq, (body,) in ((5, six), (6, five)):
        db.execute("UPDATE facts SET body = ? WHERE class = 'transaction' AND seq = ?", (body, seq))


def _deleted(db: sqlite3.Connection, epoch: str) -> None:
    db.execute("DELETE FROM facts WHERE class = 'transaction' AND seq = 5")


@pytest.mark.parametrize(
    "tamper",
    [_changed_body, _changed_hash, _recomputed, _with_another_key, _swapped, _bodies_swapped, _deleted],
)
async def test_attack_tampered_journal_row(tmp_path: Path, tamper: Callable[[sqlite3.Connection, str], None]) -> None:
    """Somebody without the key changes, swaps, deletes or plants facts in the file, recomputing the whole chain if need
    be: `tillgate journal verify` finds it, edge does not go on with such a file, and HQ takes none of it.
    """
    path = tmp_path / "store.db"
    store = await opened(path)
    await sold(store, 1, 20)
    await store.close()
    assert verify(path).ok
    with closing(sqlite3.connect(path)) as db:
        tamper(db, store.epoch)
        db.commit()
    report = verify(path)
    assert not report.ok
    store = await opened(path)
    assert store.salvaged is not None, "set aside; what HQ has not got it sees as it lies there, and compares hashes"
    assert (await store.record(fact("3", 21))).seq == 1
    await store.close()
