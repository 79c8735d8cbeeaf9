"""A store that an earlier version of edge made is brought up to date on opening, and carried on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge.daemon import SCHEMAS
from edge.journal.clock import Clock
from edge.journal.store import Store
from tests.edge.devices_rig import Counter

FIRST = Path(__file__).parent / "stores" / "first.sql"
BOOT = "b5c1f0c2-one"


def restored(directory: Path) -> Path:
    """The store of the first version as a file."""
    path = directory / "store.db"
    with sqlite3.connect(path) as db:
        db.executescript(FIRST.read_text(encoding="utf-8"))
    db.close()
    return path


def shape(path: Path) -> tuple[set[str], dict[str, list[tuple[object, ...]]]]:
    """The steps that were carried out, and every table's columns."""
    db = sqlite3.connect(path)
    steps = {name for (name,) in db.execute("SELECT name FROM schema_steps")}
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {name: db.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall() for name in tables}
    db.close()
    return steps, columns


async def test_an_earlier_store_gets_the_shape_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old, new = restored(tmp_path / "old"), tmp_path / "new.db"
    assert {"leases-1", "drawers-2", "printing-2"}.isdisjoint(shape(old)[0])
    for path in (old, new):
        for _ in range(2):  # the second time finds nothing to do
            store = await Store.open(path, "s1", clock=Clock(), schemas=SCHEMAS)
            assert store.salvaged is None
            await store.close()
    assert shape(old) == shape(new)
    assert shape(old)[0] == {"journal-1", "journal-2", "journal-3", "subjects-1", *(name for name, _ in SCHEMAS)}


async def test_what_an_earlier_life_left_is_carried_on(tmp_path: Path) -> None:
    restored(tmp_path)
    counter = Counter(tmp_path)
    for twin in counter.twins:
        await twin.open()
    try:
        await counter.start(Clock(mono_ms=lambda: 1_005_000, boot=BOOT))
        finished = await counter.until_facts("tillgate.print.finished.v1", 2)
        assert [(fact["job"], fact["state"]) for fact in finished] == [("done-1", "printed"), ("waits-1", "printed")]
        assert [counter.on_paper("Sale 1"), counter.on_paper("Sale 2")] == [0, 1]
        (closed,) = await counter.until_facts("tillgate.drawer.closed.v1", 1)
        assert closed["open_ms"] == 5_000
        opened = await counter.until_facts("tillgate.drawer.opened.v1", 2)
        assert [(fact["request"], fact["outcome"]) for fact in opened] == [("r-open", "seen"), ("r-cut", "unknown")]
        again = await counter.ask("print.reprint", {"job": "done-1", "reason": "lost"})
        assert (again["state"], counter.on_paper("Sale 1")) == ("printed", 1)
    finally:
        await counter.stop()
        for twin in counter.twins:
            await twin.close()
