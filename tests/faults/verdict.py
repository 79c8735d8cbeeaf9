"""Counts what came of a run: the tills' ledgers, the journal's file, HQ's database, and nothing of the product.

What must hold, per class (the words of docs/faults.md):

    lost          a till had `accepted`, and HQ neither has the fact nor the journal's word (a tombstone) that it was
                  shed; only engagement and telemetry may be shed
    twice         one fact id, or one number of one lane, is in HQ's database more than once
    out of order  HQ's sequence of a lane's facts is not the order in which they were accepted, or a later number of the
                  lane stands before an earlier one that its till sent only once

Each hash is computed here again: SHA-256 over the previous row's hash and this row's body as it is stored; before
sequence 1 stands SHA-256 of "tillgate.journal.v1", the epoch and the class, with a zero byte between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CLASSES = ("critical", "transaction", "operation", "engagement", "telemetry")
MAY_BE_SHED = ("engagement", "telemetry")
CLASS_OF = {
    "tillgate.tender.taken.v1": "critical",
    "tillgate.sale.completed.v1": "transaction",
    "tillgate.member.identified.v1": "engagement",
}
SHOWN = 5

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


@dataclass(slots=True)
class Figures:
    """One class."""

    made: int = 0
    accepted: int = 0
    not_accepted: int = 0
    in_journal: int = 0
    at_hq: int = 0
    confirmed: int = 0
    shed: int = 0
    lost: int = 0
    twice: int = 0
    out_of_order: int = 0


@dataclass(slots=True)
class Verdict:
    """The figures per class, and each promise with whether it was kept and the first few places where not."""

    classes: dict[str, Figures] = field(default_factory=lambda: {name: Figures() for name in CLASSES})
    checks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return all(check["kept"] for check in self.checks)

    def check(self, promise: str, broken: Iterable[str]) -> None:
        """Note a promise; `broken` says where it was not kept."""
        where = list(broken)
        self.checks.append({"promise": promise, "kept": not where, "broken": len(where), "first": where[:SHOWN]})

    def as_json(self) -> dict[str, Any]:
        """One object."""
        classes = {name: asdict(figures) for name, figures in self.classes.items()}
        return {"good": self.good, "classes": classes, "checks": self.checks, "notes": self.notes}

    def table(self) -> str:
        """For a person."""
        columns = list(asdict(Figures()))
        lines = [" ".join([f"{'class':<12}", *(f"{name.replace('_', ' '):>12}" for name in columns)])]
        for name, figures in self.classes.items():
            lines.append(" ".join([f"{name:<12}", *(f"{value:>12,}" for value in asdict(figures).values())]))
        lines.append("")
        for check in self.checks:
            lines.append(f"  {'kept  ' if check['kept'] else 'BROKEN'}  {check['promise']}")
            if not check["kept"]:
                lines += [f"            {where}" for where in check["first"]]
                if check["broken"] > SHOWN:
                    lines.append(f"            and {check['broken'] - SHOWN} more")
        lines += [f"  note    {note}" for note in self.notes]
        return "\n".join(lines)


def judge(evidence: dict[str, Any]) -> Verdict:
    """Count. `evidence`: store, tills (lane, kind, file), state (the store's folder), hq (libpq connection)."""
    verdict = Verdict()
    made: dict[str, Made] = {}
    unanswered: list[str] = []
    for till in evidence["tills"]:
        if till["kind"] == "plain":
            unanswered += _read_plain(Path(till["file"]), till["lane"], made)
        else:
            _read_library(Path(till["file"]), till["lane"], made)
    hq = _Hq(evidence["hq"], evidence["store"])
    state = Path(evidence["state"])
    journal = _Journal(state / "store.db")

    _judge_tills(verdict, made, hq)
    verdict.check("every request is answered", unanswered)
    _judge_order(verdict, made, hq)
    _judge_journal(verdict, journal, hq, state)
    _judge_chains(verdict, hq)
    for name, figures in verdict.classes.items():
        figures.in_journal = journal.heads.get(name, 0)
        figures.at_hq = sum(row.place[1] == name for row in hq.rows)
        figures.confirmed = sum(head for (_, of), (head, _) in hq.heads.items() if of == name)
    epochs = {epoch for epoch, _ in hq.heads}
    if len(epochs) > 1:
        verdict.notes.append(f"{len(epochs)} epochs: a journal was damaged, set aside and begun anew")
    verdict.notes += [f"set aside: {file.name}" for file in sorted(state.glob("*.damaged-*"))]
    return verdict


# -- the tills' ledgers ------------------------------------------------------------------------------------------------


def _read_plain(file: Path, lane: str, made: dict[str, Made]) -> list[str]:
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


def _read_library(file: Path, lane: str, made: dict[str, Made]) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT sequence, id, type, body, state, answer FROM facts").fetchall()
    for sequence, id_, type_, body, state, answer in rows:
        fact = made[id_] = Made(lane, sequence, CLASS_OF[type_], json.loads(body))
        said = json.loads(answer) if answer else {}
        if state == "accepted":
            fact.accepted.append((said["epoch"], said["class"], said["seq"]))
        elif state == "refused":
            fact.refused = str(said)


# -- the two databases -------------------------------------------------------------------------------------------------


class _Hq:
    def __init__(self, dsn: str, store: str) -> None:
        import psycopg

        with psycopg.connect(dsn) as db:
            query = "SELECT epoch, class, seq, body, hash FROM facts WHERE store = %s ORDER BY epoch, class, seq"
            self.rows = [
                Row((epoch, name, seq), body, bytes(digest) if digest is not None else None, json.loads(body))
                for epoch, name, seq, body, digest in db.execute(query, (store,))
            ]
            query = "SELECT epoch, class, contiguous, highest FROM heads WHERE store = %s"
            self.heads = {(row[0], row[1]): (row[2], row[3]) for row in db.execute(query, (store,))}
            query = "SELECT epoch, class, first, last, why FROM gone WHERE store = %s"
            self.gone = db.execute(query, (store,)).fetchall()
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


class _Journal:
    def __init__(self, file: Path) -> None:
        self.file = file
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            (self.epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            self.heads = dict(db.execute("SELECT class, max(seq) FROM facts GROUP BY class").fetchall())
            rows = db.execute("SELECT class, seq, body, hash FROM facts").fetchall()
        self.rows = {(self.epoch, name, seq): (bytes(body), bytes(digest)) for name, seq, body, digest in rows}


# -- the promises ------------------------------------------------------------------------------------------------------


def _judge_tills(verdict: Verdict, made: dict[str, Made], hq: _Hq) -> None:
    lost, shed_wrongly, changed, moved, twice_answered, waiting, refused = [], [], [], [], [], [], []
    for id_, fact in made.items():
        figures, what = verdict.classes[fact.fact_class], f"lane {fact.lane} no. {fact.sequence} ({id_})"
        figures.made += 1
        if fact.refused:
            refused.append(f"{what}: {fact.refused}")
        if not fact.accepted:
            figures.not_accepted += 1
            waiting.append(what)
            continue
        figures.accepted += 1
        if len(fact.accepted) > 1:
            twice_answered.append(f"{what}: {fact.accepted}")
        found = hq.by_id.get(id_, [])
        if found:
            moved += [
                f"{what}: accepted as {fact.accepted}, is {row.place}"
                for row in found[:1]
                if row.place not in fact.accepted
            ]
            said = {key: found[0].event.get(key) for key in fact.event}
            changed += [what] if said != fact.event else []
        elif any(hq.shed(place) for place in fact.accepted):
            figures.shed += 1
            shed_wrongly += [what] if fact.fact_class not in MAY_BE_SHED else []
        else:
            figures.lost += 1
            lost.append(f"{what} accepted as {fact.accepted[0]}")
    twice, foreign = [], []
    numbers: Counter[tuple[str, str]] = Counter()
    for row in hq.rows:
        if row.lane is not None:
            numbers[row.lane, row.event["sequence"]] += 1
            if row.event["id"] not in made:
                foreign.append(f"{row.place}: lane {row.lane}, {row.event['id']}")
    for id_, rows in hq.by_id.items():
        number = (rows[0].lane or "", str(rows[0].event.get("sequence")))
        if len(rows) > 1 or numbers[number] > 1:
            verdict.classes[rows[0].place[1]].twice += 1
            twice.append(f"{id_} lane {number[0]} no. {number[1]}: {', '.join(str(row.place) for row in rows)}")
    verdict.check("nothing accepted is lost", lost)
    verdict.check("only engagement and telemetry are shed", shed_wrongly)
    verdict.check("nothing is twice at HQ", twice)
    verdict.check("every fact is accepted in the end", waiting)
    verdict.check("no fact is refused", refused)
    verdict.check("a fact that is sent again gets the same answer", twice_answered)
    verdict.check("what HQ has is what the till made", changed)
    verdict.check("what HQ has stands where it was accepted", moved)
    verdict.check("HQ has nothing of a lane that its till did not make", foreign)


def _judge_order(verdict: Verdict, made: dict[str, Made], hq: _Hq) -> None:
    wrong = []
    before: dict[tuple[str, str, str], Row] = {}
    for row in hq.rows:  # by epoch, class and seq
        if row.lane is None:
            continue
        key = (*row.place[:2], row.lane)
        earlier = before.get(key)
        if earlier is not None and int(row.event["sequence"]) < int(earlier.event["sequence"]):
            fact = made.get(row.event["id"])
            if fact is None or fact.sends == 1:
                verdict.classes[row.place[1]].out_of_order += 1
                wrong.append(
                    f"{row.place}: lane {row.lane} no. {row.event['sequence']} after {earlier.event['sequence']}"
                )
            continue  # it came late: its till had sent it again
        before[key] = row
    for fact in made.values():
        for row in hq.by_id.get(fact.event["id"], [])[:1]:
            if fact.accepted and row.place not in fact.accepted:
                verdict.classes[fact.fact_class].out_of_order += 1
    verdict.check("a lane's facts of one class keep their order", wrong)


def _judge_journal(verdict: Verdict, journal: _Journal, hq: _Hq, state: Path) -> None:
    at_hq = {row.place: row for row in hq.rows}
    missing, differs = [], []
    for place, (body, digest) in journal.rows.items():
        row = at_hq.get(place)
        if row is None:
            missing.append(str(place))
        elif row.body.encode() != body or (row.hash is not None and row.hash != digest):
            differs.append(str(place))
    verdict.check("the whole journal is at HQ", missing)
    verdict.check("byte for byte", differs)
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "journal", "verify", str(journal.file), "--json"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    verdict.check("`tillgate journal verify` agrees", [] if done.returncode == 0 else [done.stdout + done.stderr])
    with contextlib.closing(sqlite3.connect(f"file:{state / 'bridge.db'}?mode=ro", uri=True)) as db:
        cursors = db.execute("SELECT epoch, class, confirmed FROM cursors").fetchall()
    lies = [
        f"{name} of {epoch}: the bridge takes {confirmed} for confirmed, HQ has {has}"
        for epoch, name, confirmed in cursors
        if confirmed > (has := hq.heads.get((epoch, name), (0, 0))[0])
    ]
    verdict.check("nothing counts as confirmed that HQ does not have", lies)


def _judge_chains(verdict: Verdict, hq: _Hq) -> None:
    wrong, holes = [], []
    previous: Row | None = None
    for row in hq.rows:
        epoch, name, seq = row.place
        start = hashlib.sha256(f"tillgate.journal.v1\0{epoch}\0{name}".encode()).digest() if seq == 1 else None
        follows = previous is not None and previous.place == (epoch, name, seq - 1)
        before = previous.hash if follows and previous is not None else start
        if before is not None and row.hash != hashlib.sha256(before + row.body.encode()).digest():
            wrong.append(f"{row.place}: its hash does not follow from the row before and this body")
        if (row.event.get("tgclass"), row.event.get("tgseq")) != (name, seq):
            wrong.append(f"{row.place}: the body says {row.event.get('tgclass')} {row.event.get('tgseq')}")
        if not follows and seq > 1:
            first = previous.place[2] + 1 if previous is not None and previous.place[:2] == (epoch, name) else 1
            holes += [f"{name} {first}-{seq - 1} of {epoch}"] if not _accounted(hq, epoch, name, first, seq - 1) else []
        previous = row
    holes += [
        f"{name} of {epoch}: HQ says contiguous to {contiguous}, highest {highest}"
        for (epoch, name), (contiguous, highest) in hq.heads.items()
        if contiguous != highest
    ]
    verdict.check("HQ's hashes all follow, computed anew", wrong)
    verdict.check("HQ's sequences have no holes but what was shed", holes)
    verdict.check("HQ refused nothing", [f"{reason} ({times} times)" for reason, times in hq.rejected])


def _accounted(hq: _Hq, epoch: str, name: str, first: int, last: int) -> bool:
    """Whether tombstones cover all of first to last."""
    for of_epoch, of_name, start, end, _ in sorted(hq.gone, key=lambda row: row[2]):
        if (of_epoch, of_name) == (epoch, name) and start <= first <= end:
            first = end + 1
    return first > last
