"""`tillgate audit`: what it lists, and what of a tampered journal it finds."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from edge.access.audit import Audit
from edge.bus.messages.facts import AuditAction, FactClass
from edge.commands.audit import add_commands
from edge.journal import chain
from edge.journal.clock import Clock
from edge.journal.entries import content_digest
from edge.journal.sealing import Bodies
from edge.journal.store import Store
from edge.seal import Keyring
from edge.services.facts import Reporter


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """Ten entries, one by one."""
    path = tmp_path / "store.db"
    store = await Store.open(path, "s1", clock=Clock())
    audit = Audit(Reporter(store, "s1"))
    try:
        for number in range(4):
            await audit.record(AuditAction.PERSON_LOGGED_IN, person="anna", role="cashier", lane=str(number))
        await audit.record(AuditAction.PERSON_LOGGED_IN, "refused", person="bert", lane="3", detail="=1+1\n\x1b[2J")
        for person in ("anna", "carl", "anna"):
            await audit.record(
                AuditAction.OVERRIDE_USED, person=person, second_person="sven", lane="3", subject="drawer_without_sale"
            )
        await audit.record(AuditAction.PERSON_CHANGED, person="olga", subject="anna", detail="password")
        await audit.record(AuditAction.KEY_ROTATED, person="olga")
    finally:
        await store.close()
    return path


def tillgate(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="tillgate")
    add_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(["audit", *arguments])
    return int(chosen.run(chosen))


def spoil(path: Path, sql: str, *parameters: object) -> None:
    db = sqlite3.connect(path)
    assert db.execute(sql, parameters).rowcount > 0
    db.commit()
    db.close()


def head(path: Path, seq: int) -> str:
    """As HQ, which was sent the same bodies, prints it."""
    db = sqlite3.connect(path)
    (digest,) = db.execute("SELECT hash FROM facts WHERE class = 'operation' AND seq = ?", (seq,)).fetchone()
    db.close()
    return f"operation:{seq}:{digest.hex()[:16]}"


async def test_list_shows_and_filters(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lines(*arguments: str) -> list[str]:
        assert tillgate("list", str(journal), *arguments) == 0
        return capsys.readouterr().out.splitlines()

    assert len(lines()) == 10
    assert len(lines("--person", "anna")) == 7
    assert len(lines("--person", "sven")) == 3
    assert len(lines("--action", "person")) == 6
    assert len(lines("--action", "override.used", "--lane", "3")) == 3
    assert len(lines("--outcome", "refused")) == 1
    assert lines("--day", "1999-01-01") == []
    assert [line.split()[1] for line in lines("--last", "2")] == ["person.changed", "key.rotated"]
    shown = lines("--action", "override", "--last", "1")[0]
    assert "override.used anna, approved by sven at lane 3 drawer_without_sale" in shown
    assert json.loads(lines("--json", "--last", "1")[0])["action"] == "key.rotated"
    assert tillgate("list", str(journal), "--action", "no.such") == 2


async def test_attack_what_a_stranger_said_acts_on_whoever_reads_it(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody gives a name full of escapes and formulas: neither terminal nor spreadsheet takes orders from it."""
    assert tillgate("list", str(journal), "--outcome", "refused") == 0
    assert "\x1b" not in capsys.readouterr().out
    assert tillgate("list", str(journal), "--outcome", "refused", "--csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["detail"].startswith("'=")


async def test_a_whole_record_verifies_and_fits_with_hqs(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tillgate("verify", str(journal), "--head", head(journal, 4), "--head", head(journal, 10)) == 0
    assert "10 audit entries" in capsys.readouterr().out
    assert tillgate("verify", str(journal), "--json") == 0
    assert json.loads(capsys.readouterr().out)["audit_entries"] == 10


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE facts SET body = (SELECT body FROM facts WHERE class = 'operation' AND seq = 5)"
         " WHERE class = 'operation' AND seq = 6", "6: "),
        ("DELETE FROM facts WHERE class = 'operation' AND seq = 6", "after 5 comes 7"),
        ("UPDATE facts SET body = CAST('{}' AS BLOB) WHERE class = 'operation' AND seq = 7", "7: "),
    ],
)  # fmt: skip
async def test_attack_audit_entry_changed_or_removed(
    journal: Path, sql: str, finding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody with the disk changes or removes an entry: the chain does not fit from there on."""
    spoil(journal, sql)
    assert tillgate("verify", str(journal)) == 1
    assert finding in capsys.readouterr().out


async def test_attack_audit_cut_off_at_its_end(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody removes the newest entries: what is left is in order by itself, HQ's head shows what is missing."""
    hq = head(journal, 10)
    spoil(journal, "DELETE FROM facts WHERE class = 'operation' AND seq > 7")
    assert tillgate("verify", str(journal)) == 0
    assert tillgate("verify", str(journal), "--head", hq) == 1
    assert "HQ has facts up to 10, here they end at 7: 3 are cut off" in capsys.readouterr().out


async def test_attack_audit_written_anew_with_hashes_that_fit(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who has the key, too, writes the last entries anew with every hash: HQ's head is another."""
    hq = head(journal, 10)
    db = sqlite3.connect(journal)
    (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    bodies = Bodies.by(Keyring.find(journal.parent, create=False)).of(db)
    (before,) = db.execute("SELECT hash FROM facts WHERE class = 'operation' AND seq = 5").fetchone()
    for seq in range(6, 11):
        (stored,) = db.execute("SELECT body FROM facts WHERE class = 'operation' AND seq = ?", (seq,)).fetchone()
        body = bodies.plain(epoch, "operation", seq, stored).replace(b'"anna"', b'"carl"')
        before = chain.link(before, body)
        digest = content_digest(body)
        db.execute(
            "UPDATE facts SET body = ?, hash = ?, digest = ? WHERE class = 'operation' AND seq = ?",
            (bodies.sealed(epoch, "operation", seq, body), before, digest, seq),
        )
    db.commit()
    db.close()
    assert tillgate("verify", str(journal)) == 0
    assert tillgate("verify", str(journal), "--head", hq) == 1
    assert "not the one that HQ has" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["operation", "nothing:1:0011223344556677", "operation:x:0011223344556677", "operation:1:00"]
)
async def test_a_head_that_is_none_is_refused(journal: Path, text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        tillgate("verify", str(journal), "--head", text)
    assert caught.value.code == 2


def test_actions_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert tillgate("actions") == 0
    assert len(capsys.readouterr().out.splitlines()) == len(AuditAction)
    assert FactClass.OPERATION.durable, "an entry is on disk before what it is about is done"
