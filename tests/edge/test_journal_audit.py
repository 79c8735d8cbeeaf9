"""`tillgate journal`: what verify finds, what show and export write."""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from edge.bus.messages.facts import FactClass
from edge.journal.audit import verify
from edge.journal.commands import add_commands
from edge.journal.sealing import Bodies, teach
from tests.edge.journal_facts import fact, opened, telemetry

ZERO = "CAST(replace(plain(class, seq, body), '1250', '0250') AS BLOB)"


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """Twenty sales of lane 3, five of lane 4 with a hole, some telemetry, one conflict, and what is said of it."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await asyncio.gather(
            *(store.append(fact("3", number, id_=f"sale-{number}")) for number in range(1, 21)),
            *(store.append(fact("4", number)) for number in (1, 2, 5, 6, 7)),
            *(store.append(telemetry(n=n)) for n in range(3)),
        )
        await store.record(fact("3", 21, id_="sale-7", total_minor=1))
    return path


def _tillgate(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="tillgate")
    add_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(["journal", *arguments])
    return int(chosen.run(chosen))


def _spoil(path: Path, sql: str, *parameters: object) -> None:
    db = sqlite3.connect(path)
    teach(db, Bodies.beside(path))
    assert db.execute(sql, parameters).rowcount > 0
    db.commit()
    db.close()


async def test_a_sound_journal_verifies(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tillgate("verify", str(journal)) == 0
    text = capsys.readouterr().out
    assert "1–26" in text
    assert "1 in conflict" in text
    assert "lane 4: 3–4 have not come" in text
    assert "everything is there and unchanged" in text
    assert _tillgate("verify", str(journal), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["classes"]["transaction"]["count"] == 26
    assert found["lane_gaps"] == [{"lane": "4", "first": 3, "last": 4}]


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE facts SET body = " + ZERO + " WHERE class = 'transaction' AND seq = 4", "4: it lies in plain"),
        ("DELETE FROM facts WHERE class = 'transaction' AND seq = 9", "after 8 comes 10"),
        ("DELETE FROM facts WHERE class = 'transaction' AND seq < 3", "after 0 comes 3"),
        ("UPDATE facts SET hash = zeroblob(32) WHERE class = 'telemetry' AND seq = 2", "2: the hash"),
        ("UPDATE facts SET class = 'critical', seq = 1 WHERE class = 'telemetry' AND seq = 3", "1: it was changed"),
        ("UPDATE facts SET id = 'another' WHERE class = 'transaction' AND seq = 5", "5: the body says id"),
        ("UPDATE facts SET digest = zeroblob(16) WHERE class = 'transaction' AND seq = 5", "5: the body is not what"),
        ("UPDATE facts SET conflict = NULL WHERE conflict = 'id'", "26: the body says tgconflict"),
        ("UPDATE facts SET body = x'7b' WHERE class = 'transaction' AND seq = 6", "6: it lies in plain"),
        ("UPDATE facts SET body = substr(body, 1, 60) WHERE class = 'transaction' AND seq = 6", "6: it was changed"),
    ],
)  # fmt: skip
async def test_tampering_is_found(journal: Path, sql: str, finding: str, capsys: pytest.CaptureFixture[str]) -> None:
    _spoil(journal, sql)
    assert _tillgate("verify", str(journal)) == 1
    text = capsys.readouterr().out
    assert finding in text
    assert "NOT in order" in text


async def test_rewriting_a_row_and_its_hash_breaks_the_next(journal: Path) -> None:
    """Whoever has the key and changes one fact must change every later hash, and HQ knows those."""
    from edge.journal import chain

    db = sqlite3.connect(journal)
    bodies = Bodies.beside(journal)
    teach(db, bodies)
    (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    (before,) = db.execute("SELECT hash FROM facts WHERE class = 'transaction' AND seq = 3").fetchone()
    (body,) = db.execute("SELECT plain(class, seq, body) FROM facts WHERE class = 'transaction' AND seq = 4").fetchone()
    changed = body.replace(b"1250", b"0250")
    db.execute(
        "UPDATE facts SET body = ?, hash = ? WHERE class = 'transaction' AND seq = 4",
        (bodies.sealed(epoch, "transaction", 4, changed), chain.link(before, changed)),
    )
    db.commit()
    db.close()
    problems = next(item for item in verify(journal).classes if item.fact_class is FactClass.TRANSACTION).problems
    assert any(problem.startswith("5: the hash") for problem in problems)


async def test_verify_works_while_facts_come_in(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record(fact("1", 1))
        loop = asyncio.get_running_loop()
        walk = loop.run_in_executor(None, lambda: [verify(path).ok for _ in range(5)])
        number = 1
        while not walk.done():
            number += 1
            await store.record(fact("1", number))
            await store.trim({FactClass.TRANSACTION: number - 2}, {FactClass.TRANSACTION: 0})
        assert await walk == [True] * 5


async def test_show(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tillgate("show", str(journal), "--last", "2") == 0
    text = capsys.readouterr().out
    assert text.count("    id ") == 2
    assert "transaction 26" in text
    assert "CONFLICT of id" in text
    assert _tillgate("show", str(journal), "--id", "sale-7", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["tgseq"] for line in lines] == [7, 26]
    assert _tillgate("show", str(journal), "--lane", "4", "--class", "transaction", "--last", "100") == 0
    assert capsys.readouterr().out.count("lane 4 no.") == 5
    assert _tillgate("show", str(journal), "--id", "nobody") == 0
    assert "no fact fits" in capsys.readouterr().err


async def test_export(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tillgate("export", str(journal)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 31
    assert lines[0]["specversion"] == "1.0"
    assert _tillgate("export", str(journal), "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 31
    assert rows[0]["id"] == "sale-1"
    assert [row["conflict"] for row in rows[-2:]] == ["id", ""], "the newcomer, and what the journal says of it"
    assert rows[-1]["type"] == "tillgate.sequence.conflict.v1"


async def test_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "show", "export"):
        assert _tillgate(command, str(tmp_path / "nothing.db")) == 2
        assert "give the path of a store.db" in capsys.readouterr().err
