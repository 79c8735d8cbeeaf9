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
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.records import AtHq, Journal, Made, Row, read_library, read_plain

CLASSES = ("critical", "transaction", "operation", "engagement", "telemetry")
MAY_BE_SHED = ("engagement", "telemetry")
SHOWN = 5


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
            unanswered += read_plain(Path(till["file"]), till["lane"], made)
        else:
            read_library(Path(till["file"]), till["lane"], made)
    hq = AtHq(evidence["hq"], evidence["store"])
    state = Path(evidence["state"])
    journal = Journal(state / "store.db")

    _judge_tills(verdict, made, hq)
    verdict.check("every request is answered", unanswered)
    _judge_order(verdict, made, hq)
    _judge_journal(verdict, journal, hq, state)
    _judge_chains(verdict, hq)
    _judge_office(verdict, hq)
    for name, figures in verdict.classes.items():
        figures.in_journal = journal.heads.get(name, 0)
        figures.at_hq = sum(row.place[1] == name for row in hq.rows)
        figures.confirmed = sum(head for (_, of), (head, _) in hq.heads.items() if of == name)
    epochs = {epoch for epoch, _ in hq.heads}
    if len(epochs) > 1:
        verdict.notes.append(f"{len(epochs)} epochs: a journal was damaged, set aside and begun anew")
    verdict.notes += [f"set aside: {file.name}" for file in sorted(state.glob("*.damaged-*"))]
    return verdict


# -- the promises ------------------------------------------------------------------------------------------------------


def _judge_tills(verdict: Verdict, made: dict[str, Made], hq: AtHq) -> None:
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
            if fact.fact_class == "engagement":  # a till forgets who the customer was, once the gateway has the fact
                said["data"] = {key: (said["data"] or {}).get(key) for key in fact.event["data"]}
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


def _judge_order(verdict: Verdict, made: dict[str, Made], hq: AtHq) -> None:
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


def _judge_journal(verdict: Verdict, journal: Journal, hq: AtHq, state: Path) -> None:
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


def _judge_chains(verdict: Verdict, hq: AtHq) -> None:
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


def _accounted(hq: AtHq, epoch: str, name: str, first: int, last: int) -> bool:
    """Whether tombstones cover all of first to last."""
    for of_epoch, of_name, start, end, _ in sorted(hq.gone, key=lambda row: row[2]):
        if (of_epoch, of_name) == (epoch, name) and start <= first <= end:
            first = end + 1
    return first > last


def _judge_office(verdict: Verdict, hq: AtHq) -> None:
    """What went down: commands are answered once, and received once; the newest price version is in force."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    versions = []
    for row in hq.rows:
        data = row.event.get("data") or {}
        if row.event["type"] in ("tillgate.command.received.v1", "tillgate.command.finished.v1"):
            said[row.event["type"].split(".")[2]][str(data.get("command"))] += 1
        elif row.event["type"] == "tillgate.price.activated.v1":
            versions.append(data["version"])
    given = dict(hq.commands)
    verdict.check(
        f"each of HQ's {len(given)} commands is received and answered once",
        [
            f"{operation} {id_}: received {said['received'][id_]} times, answered {said['finished'][id_]} times"
            for id_, operation in given.items()
            if said["finished"][id_] != 1 or said["received"][id_] > 1
        ],
    )
    verdict.check("no answer to a command that HQ has not given", sorted({*said["finished"]} - {*given}))
    newest = hq.versions[-1:]
    verdict.check(
        f"the newest of HQ's {len(hq.versions)} price versions is in force",
        [] if newest == versions[-1:] else [f"published {newest}, activated {versions}"],
    )
    twice = [version for version, times in Counter(versions).items() if times > 1]
    verdict.check("no price version is activated twice", twice)
