"""A damaged file is set aside and never deleted; what can be read of it is carried over."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from pathlib import Path

import pytest

from edge.bus.messages.facts import FactClass
from edge.journal.audit import verify
from edge.journal.commands import add_commands
from edge.journal.failing import marker
from edge.journal.opening import PAGE_BYTES
from edge.journal.reader import Reader
from edge.journal.store import Accepted, NewFact, StoreFaulted
from tests.edge.journal_facts import fact, opened

SALES = FactClass.TRANSACTION
COUNT = 400


@pytest.fixture
async def sales() -> list[NewFact]:
    return [fact(str(number % 4), number // 4 + 1, pad="x" * 300) for number in range(COUNT)]


@pytest.fixture
async def journal(tmp_path: Path, sales: list[NewFact]) -> Path:
    """A closed journal of 400 sales from four lanes."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await asyncio.gather(*(store.append(sale) for sale in sales))
    return path


def _set_aside(journal: Path) -> list[Path]:
    return sorted(journal.parent.glob("store.damaged-*.db"))


def _spoil_page(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


def _facts_leaf_pages(path: Path) -> list[int]:
    """Pages that hold rows of `facts`, found by the texts in them (SQLite has no list of them to give)."""
    content = path.read_bytes()
    pages = {page: content[(page - 1) * PAGE_BYTES :][:PAGE_BYTES] for page in range(2, len(content) // PAGE_BYTES + 1)}
    return [page for page, held in pages.items() if held[0] == 13 and b"tillgate.sale.completed.v1" in held]


async def test_a_sound_file_stays(journal: Path) -> None:
    async with opened(journal) as store:
        assert store.salvaged is None
    assert _set_aside(journal) == []


async def test_one_bad_page_costs_only_its_rows(
    journal: Path, sales: list[NewFact], caplog: pytest.LogCaptureFixture
) -> None:
    old_epoch = verify(journal).epoch
    leaves = _facts_leaf_pages(journal)
    _spoil_page(journal, leaves[len(leaves) // 2])
    with caplog.at_level(logging.ERROR):
        async with opened(journal) as store:
            assert store.epoch != old_epoch
            assert store.heads[SALES] == 0
            assert store.salvaged is not None
            assert store.salvaged.path == _set_aside(journal)[0]
            kept = store.salvaged.facts
            assert COUNT - 20 <= kept < COUNT
            assert "was set aside" in caplog.text
            assert "Keep that file" in caplog.text

            outcomes = [await store.record(sale) for sale in sales[:4] + sales[-4:]]
            assert outcomes[0] == Accepted(SALES, 1, old_epoch, repeated=True), "the old acceptance still stands"
            assert outcomes[-1] == Accepted(SALES, COUNT, old_epoch, repeated=True)
            missing = await store.fetch_all("SELECT lane, first, last FROM lane_gaps")
            assert sum(last - first + 1 for _, first, last in missing) == COUNT - kept, "what was lost is said"
            lane, first, _ = missing[0]
            again = await store.record(next(sale for sale in sales if (sale.lane, sale.lane_seq) == (lane, first)))
            assert again == Accepted(SALES, 1, store.epoch, repeated=False), "its till still has it: it is filled"
            assert store.lane_highest("1") == COUNT // 4
            assert (await store.record(fact("1", COUNT // 4 + 1))).seq == 2

            reader = await Reader.open(journal)
            assert await reader.epochs() == [old_epoch, store.epoch]
            assert (await reader.heads(old_epoch))[SALES] == COUNT
            carried: list[int] = []
            while rows := await reader.tail(SALES, carried[-1] if carried else 0, 100, epoch=old_epoch):
                carried += [row.seq for row in rows]
                assert all(json.loads(row.body)["tgseq"] == row.seq for row in rows)
            assert len(carried) == kept
            await reader.close()
    report = verify(journal)
    assert report.ok
    assert report.salvaged == kept
    async with opened(journal) as store:
        assert store.salvaged is None, "once is enough"
        assert (await store.record(sales[0])).repeated
    assert len(_set_aside(journal)) == 1


@pytest.mark.parametrize("damage", ["header", "truncated", "zeros", "text"])
async def test_a_file_beyond_reading_still_lets_the_store_open(journal: Path, damage: str) -> None:
    content = journal.read_bytes()
    spoilt = {
        "header": b"\xff" * 100 + content[100:],
        "truncated": content[: len(content) // 2 + 100],
        "zeros": b"\0" * len(content),
        "text": b"hello, this is no database at all",
    }[damage]
    journal.write_bytes(spoilt)
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert (await store.record(fact("9", 1))).seq == 1
    assert _set_aside(journal)[0].read_bytes()[:50] == spoilt[:50], "kept as it was"
    assert verify(journal).ok


@pytest.mark.parametrize("page_bytes", [PAGE_BYTES, 4096])
async def test_without_its_first_bytes_a_file_is_read_whatever_the_size_of_its_pages(
    journal: Path, page_bytes: int
) -> None:
    db = sqlite3.connect(journal, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute(f"PRAGMA page_size = {page_bytes}")
    db.execute("VACUUM")
    db.close()
    content = journal.read_bytes()
    assert int.from_bytes(content[16:18], "big") == page_bytes
    async with opened(journal) as store:
        assert store.salvaged is None
        assert await store.fetch_one("PRAGMA page_size") == (page_bytes,), "an older file goes on as it is"
        assert (await store.record(fact("9", 1))).seq == COUNT + 1
    journal.write_bytes(b"\xff" * 100 + journal.read_bytes()[100:])
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert store.salvaged.facts == COUNT + 1


async def test_a_broken_chain_among_the_last_rows_is_damage(journal: Path) -> None:
    db = sqlite3.connect(journal)
    db.execute("UPDATE facts SET hash = zeroblob(32) WHERE seq = ?", (COUNT - 3,))
    db.commit()
    db.close()
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert "hash chain breaks at transaction 397" in store.salvaged.reason
        assert store.salvaged.facts == COUNT


@pytest.mark.parametrize("begun", [False, True])
async def test_dying_between_setting_aside_and_salvage_loses_nothing(journal: Path, begun: bool) -> None:
    """As after a power cut: the damaged file has its new name, the new store has no tables yet."""
    journal.rename(journal.with_name("store.damaged-20260504T093000000Z.db"))
    if begun:
        sqlite3.connect(journal).execute("PRAGMA journal_mode = WAL").connection.close()
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert store.salvaged.facts == COUNT


async def test_dying_in_the_middle_of_salvage_starts_it_again(journal: Path) -> None:
    _spoil_page(journal, _facts_leaf_pages(journal)[3])
    async with opened(journal) as store:
        assert store.salvaged is not None
        kept, name = store.salvaged.facts, store.salvaged.path.name
    db = sqlite3.connect(journal)
    db.execute("DELETE FROM salvaged WHERE seq % 2 = 0")
    db.execute("INSERT INTO meta VALUES ('salvage_pending', ?)", (name,))
    db.commit()
    db.close()
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert store.salvaged.facts == kept


async def test_damage_met_while_running_faults_the_store_and_the_next_life_looks_closer(journal: Path) -> None:
    async with opened(journal) as store:
        db = sqlite3.connect(journal)
        db.execute("DROP TABLE facts")
        db.commit()
        db.close()
        with pytest.raises(StoreFaulted):
            await store.record(fact("9", 1))
        assert marker(journal).exists()
    async with opened(journal) as store:
        assert store.salvaged is not None
        assert store.salvaged.reason == "the journal's tables are not all there"
        assert not marker(journal).exists()


async def test_what_was_set_aside_can_be_exported(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    _spoil_page(journal, _facts_leaf_pages(journal)[5])
    async with opened(journal) as store:
        assert store.salvaged is not None
        kept = store.salvaged.facts
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(["journal", "export", str(_set_aside(journal)[0])])
    assert chosen.run(chosen) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == kept
    assert "could not be read" in captured.err
    chosen = parser.parse_args(["journal", "verify", str(_set_aside(journal)[0])])
    assert chosen.run(chosen) == 1
