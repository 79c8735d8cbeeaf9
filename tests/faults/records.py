"""The three records that are counted against each other: the tills' ledgers, the journal's file, HQ's database.

Read with the standard library and a database driver; nothing of the product is used.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from demo.sealed import OF_JOURNAL, OF_LEDGER, teach

CLASS_OF = {
    "tillgate.tender.taken.v1": "critical",
    "tillgate.sale.completed.v1": "transaction",
    "tillgate.member.identified.v1": "engagement",
}

Place = tuple[str, str, int]
"""(epoch, class, seq)"""


@dataclass(slots=True)
class Made:
    """A fact as its till knows it. `sends` 0: the till does not say how often it sent it."""

    lane: str
    sequence: int
    fact_class: str
    event: dict[str, Any]
    accepted: list[Place] = field(default_factory=list)
    refused: str = ""
    sends: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A fact as HQ has it."""

    place: Place
    body: str
    hash: bytes | None
    event: dict[str, Any]

    @property
    def lane(self) -> str | None:
        """Whose number `sequence` is; None for what the gateway says itself."""
        parts = str(self.event.get("source", "")).split("/")
        return parts[4] if len(parts) == 5 and parts[3] == "lanes" and "sequence" in self.event else None


# -- the tills' ledgers ------------------------------------------------------------------------------------------------


def read_plain(file: Path, lane: str, made: dict[str, Made]) -> list[str]:
    """Take the facts of a ledger of lines; the requests without an answer."""
    asked: set[str] = set()
    whole = file.read_bytes()
    for line in whole[: whole.rfind(b"\n") + 1].splitlines():
        entry = json.loads(line)
        if "made" in entry:
            event = entry["made"]
            made[event["id"]] = Made(lane, int(event["sequence"]), entry["class"], event)
        elif "sent" in entry:
            made[entry["sent"]].sends += 1
        elif "accepted" in entry:
            place = (entry["epoch"], entry["class"], entry["seq"])
            fact = made[entry["accepted"]]
            if place not in fact.accepted:
                fact.accepted.append(place)
        elif "refused" in entry:
            made[entry["refused"]].refused = entry["problem"]["code"]
        elif "asked" in entry:
            asked.add(entry["asked"])
        elif "answered" in entry:
            asked.discard(entry["answered"])
    return [f"lane {lane}: {id_}" for id_ in sorted(asked)]


def read_library(file: Path, lane: str, made: dict[str, Made]) -> None:
    """Take the facts of a ledger of the library, an SQLite file."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        teach(db, Path(file))
        rows = db.execute(f"SELECT sequence, id, type, {OF_LEDGER}, state, answer FROM facts").fetchall()
    for sequence, id_, type_, body, state, answer in rows:
        fact = made[id_] = Made(lane, sequence, CLASS_OF[type_], json.loads(body))
        said = json.loads(answer) if answer else {}
        if state == "accepted":
            fact.accepted.append((said["epoch"], said["class"], said["seq"]))
        elif state == "refused":
            fact.refused = str(said)


# -- the two databases -------------------------------------------------------------------------------------------------


def opened(body: str, keys: dict[str, bytes]) -> dict[str, Any]:
    """A fact as HQ can read it, by docs/hq.md ("Customers"): who the customer was is sealed with a key of their own.

    A part whose key is not at HQ, or does not fit, stays as it is: then HQ has not what the till made.
    """
    event: dict[str, Any] = json.loads(body)
    for name, part in (event.get("data") or {}).items():
        if isinstance(part, dict) and part.get("tgsealed") in keys:
            place = [text.encode() for text in (event["type"], event["id"], name)]
            with contextlib.suppress(InvalidTag):
                plain = AESSIV(keys[part["tgsealed"]]).decrypt(base64.b64decode(part["siv"]), place)
                event["data"][name] = json.loads(plain)
    return event


class AtHq:
    """HQ's database: its rows by epoch, class and seq, and what it knows of its chains."""

    def __init__(self, dsn: str, store: str) -> None:
        import psycopg

        with psycopg.connect(dsn) as db:
            query = "SELECT epoch, class, seq, body, hash FROM facts WHERE store = %s ORDER BY epoch, class, seq"
            rows = db.execute(query, (store,)).fetchall()
            query = "SELECT pseudonym, key FROM subjects WHERE store = %s AND key IS NOT NULL"
            keys = {pseudonym: bytes(key) for pseudonym, key in db.execute(query, (store,))}
            self.rows = [
                Row((epoch, name, seq), body, bytes(digest) if digest is not None else None, opened(body, keys))
                for epoch, name, seq, body, digest in rows
            ]
            query = "SELECT epoch, class, contiguous, highest FROM heads WHERE store = %s"
            self.heads = {(row[0], row[1]): (row[2], row[3]) for row in db.execute(query, (store,))}
            query = "SELECT epoch, class, first, last, why FROM gone WHERE store = %s"
            self.gone = db.execute(query, (store,)).fetchall()
            query = "SELECT id, operation FROM commands_sent WHERE scope = %s ORDER BY seq"
            self.commands = db.execute(query, (f"stores/{store}",)).fetchall()
            query = "SELECT version FROM prices_sent WHERE scope = %s ORDER BY last"
            self.versions = [row[0] for row in db.execute(query, (f"stores/{store}",))]
            self.rejected = db.execute("SELECT reason, times FROM rejected ORDER BY id").fetchall()
        self.by_id: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            self.by_id[row.event["id"]].append(row)

    def shed(self, place: Place) -> bool:
        """Whether the store said that it let this go for want of room or age."""
        return any(
            (epoch, name) == place[:2] and first <= place[2] <= last and why in ("evicted", "expired")
            for epoch, name, first, last, why in self.gone
        )


class Journal:
    """The store's own file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            (self.epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            self.heads = dict(db.execute("SELECT class, max(seq) FROM facts GROUP BY class").fetchall())
            teach(db, file)
            rows = db.execute(f"SELECT class, seq, {OF_JOURNAL}, hash FROM facts").fetchall()
        self.rows = {(self.epoch, name, seq): (bytes(body), bytes(digest)) for name, seq, body, digest in rows}
