"""Breaks a promise on purpose: the count must find it.

`KINDS` change the evidence after a run and before it is counted, in the databases and ledgers themselves; what is
broken is in a class that tills write, so that each is a fault that matters. `CONFIGURED` are lines for [cloud] in
store.toml under which the store promises less, so that the run itself loses facts.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

Evidence = dict[str, Any]


def _at_hq(evidence: Evidence, *statements: str) -> None:
    import psycopg

    with psycopg.connect(evidence["hq"]) as db:
        for statement in statements:
            assert db.execute(statement.encode()).rowcount > 0, statement


def lose(evidence: Evidence) -> None:
    """A sale is gone from HQ."""
    _at_hq(evidence, "DELETE FROM facts WHERE class = 'transaction' AND seq = 3")


def double(evidence: Evidence) -> None:
    """A tender is at HQ a second time, under the next free number."""
    columns = "store, epoch, class, {seq}, id, type, lane, time, recorded_at, body, hash, received_at"
    into, source = columns.format(seq="seq"), columns.format(seq="(SELECT max(seq) + 1 FROM facts)")
    one = "class = 'critical' AND seq = 2"
    _at_hq(evidence, f"INSERT INTO facts ({into}) SELECT {source} FROM facts WHERE {one}")


def swap(evidence: Evidence) -> None:
    """Two sales of one lane have changed places."""
    import psycopg

    with psycopg.connect(evidence["hq"]) as db:
        query = (
            "SELECT lane, min(seq), max(seq) FROM facts WHERE class = 'transaction' AND lane IS NOT NULL"
            " GROUP BY lane HAVING count(*) > 1 LIMIT 1"
        )
        row = db.execute(query).fetchone()
        assert row is not None
        for old, new in ((row[1], -1), (row[2], row[1]), (-1, row[2])):
            db.execute("UPDATE facts SET seq = %s WHERE class = 'transaction' AND seq = %s", (new, old))


def change(evidence: Evidence) -> None:
    """The amount of a sale at HQ is another."""
    _at_hq(
        evidence,
        "UPDATE facts SET body = replace(body, '\"total_minor\":', '\"total_minor\":1')"
        " WHERE class = 'transaction' AND seq = 2",
    )


def invent(evidence: Evidence) -> None:
    """A till has a fact in its ledger, with `accepted`, that nobody ever took."""
    till = next(till for till in evidence["tills"] if till["kind"] == "plain")
    event = {"id": str(uuid.uuid4()), "sequence": "0009999999", "source": f"/stores/{evidence['store']}/lanes/1"}
    place = {"class": "critical", "seq": 999_999, "epoch": "none"}
    with Path(till["file"]).open("a") as file:
        for line in ({"made": event, "class": "critical"}, {"sent": event["id"]}, {"accepted": event["id"], **place}):
            file.write(json.dumps(line) + "\n")


def cut_out(evidence: Evidence) -> None:
    """A row is missing in the store's own journal."""
    with contextlib.closing(sqlite3.connect(Path(evidence["state"]) / "store.db")) as db:
        db.execute("DELETE FROM facts WHERE class = 'critical' AND seq = 2")
        db.commit()


def lie(evidence: Evidence) -> None:
    """The bridge takes for confirmed what HQ does not have."""
    with contextlib.closing(sqlite3.connect(Path(evidence["state"]) / "bridge.db")) as db:
        db.execute("UPDATE cursors SET confirmed = confirmed + 1000 WHERE class = 'critical'")
        db.commit()


KINDS: dict[str, Callable[[Evidence], None]] = {
    "lose": lose,
    "double": double,
    "swap": swap,
    "change": change,
    "invent": invent,
    "cut-out": cut_out,
    "lie": lie,
}

CONFIGURED = {"trust-broker": 'confirm = "broker"'}
"""trust-broker: what the cloud's broker has taken counts as delivered, and the broker is killed now and then."""
