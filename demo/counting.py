"""The day's count: what each end has, read from its own files, and where two ends differ.

Strategy: four witnesses that know nothing of each other. The tills' ledgers, the gateway's journal and HQ's database
are asked by SQL, the paper and the drawers by what the virtual devices wrote down. Nothing of the product is imported
here. A sale is known by its receipt number, a fact by (lane, lane sequence): keys of the business, so that a fact that
was recorded twice under two numbers would be seen.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.places import Lane, Places
from demo.receipt import OnPaper, read_paper
from demo.sealed import OF_JOURNAL, OF_LEDGER, teach

SALE = "tillgate.sale.completed.v1"
TENDER = "tillgate.tender.taken.v1"
OPENED = "tillgate.drawer.opened.v1"
PRINTED = "tillgate.print.finished.v1"
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `differ` lists what is not the same at both ends, each with where it is and is not."""

    name: str
    good: bool
    detail: str
    differ: tuple[str, ...] = ()


@dataclass(slots=True)
class Count:
    """Everything counted. `checks` says whether it agrees."""

    sales_made: int = 0
    accepted: int = 0
    in_journal: int = 0
    at_hq: int = 0
    duplicates_at_hq: int = 0
    gaps: int = 0
    receipts_printed: int = 0
    receipts_unknown: int = 0
    copies_printed: int = 0
    drawer_openings: int = 0
    facts_in_journal: int = 0
    facts_at_hq: int = 0
    checks: list[Check] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every end has the same."""
        return all(check.good for check in self.checks)

    def check(self, name: str, good: bool, detail: str, differ: Iterable[str] = ()) -> None:
        """Add a check."""
        self.checks.append(Check(name, good, detail, tuple(sorted(differ))))

    def same(self, name: str, ends: dict[str, Counter[Any]]) -> None:
        """Add a check that every end has each key exactly once, and the same keys."""
        everything = set().union(*ends.values())
        differ = []
        for key in everything:
            counts = {end: found[key] for end, found in ends.items()}
            if set(counts.values()) != {1}:
                differ.append(f"{key}: " + ", ".join(f"{end} {count}" for end, count in counts.items()))
        detail = ", ".join(f"{end} {sum(found.values())}" for end, found in ends.items())
        self.check(name, not differ, detail, differ)


Heads = dict[str, int]
"""Class of facts -> highest sequence."""


def journal_heads(places: Places) -> Heads:
    """How far the journal goes at the moment."""
    return dict(_read(places.store_db, "SELECT class, max(seq) FROM facts GROUP BY class"))


def count(places: Places, at_rest: Heads) -> Count:
    """Count at each end, everything having been stopped.

    `at_rest` is how far the journal went when HQ had all of it: what the gateway says of itself while it stops comes
    after that, and reaches HQ at its next start.
    """
    result = Count()
    tills = {
        lane: _read(places.ledger(lane), f"SELECT type, CAST({OF_LEDGER} AS TEXT), state FROM facts")  # noqa: S608
        for lane in places.lanes
    }
    of_store = f"SELECT type, CAST({OF_JOURNAL} AS TEXT), lane, lane_seq FROM facts"  # noqa: S608
    journal = _read(places.store_db, of_store)
    hq = _read(places.hq_db, "SELECT type, body, class, seq FROM facts")
    _facts(result, tills, journal, hq)
    _sequences(result, places, tills)
    _journal_at_hq(result, places, at_rest)
    _paper(result, places, tills, journal)
    _drawers(result, places, journal, hq)
    return result


def waiting_for_hq(places: Places, heads: Heads) -> int:
    """How many of the journal's facts up to `heads` HQ's database has not, right now."""
    query = "SELECT class, count(*) FROM facts WHERE class = ? AND seq <= ?"
    at_hq = {class_: _read(places.hq_db, query, class_, head)[0][1] for class_, head in heads.items()}
    return sum(head - at_hq[class_] for class_, head in heads.items())


def _read(file: Path, query: str, *values: Any) -> list[Any]:
    """Rows of a database that others may be writing to."""
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
    teach(database, file)
    try:
        return database.execute(query, values).fetchall()
    finally:
        database.close()


def _numbers(rows: Iterable[Any], type_: str) -> Counter[str]:
    return Counter(json.loads(row[1])["data"]["receipt_number"] for row in rows if row[0] == type_)


def _facts(result: Count, tills: dict[Lane, list[Any]], journal: list[Any], hq: list[Any]) -> None:
    """Sales and tenders at the three ends that keep facts."""
    made = [row for rows in tills.values() for row in rows]
    accepted = [row for row in made if row[2] == "accepted"]
    for name, type_ in (("sales", SALE), ("tenders", TENDER)):
        ends = {
            "made": _numbers(made, type_),
            "accepted": _numbers(accepted, type_),
            "in the journal": _numbers(journal, type_),
            "at HQ": _numbers(hq, type_),
        }
        result.same(name, ends)
        if type_ == SALE:
            result.sales_made, result.accepted, result.in_journal, result.at_hq = (
                sum(found.values()) for found in ends.values()
            )
        result.duplicates_at_hq += sum(number - 1 for number in ends["at HQ"].values())
    amounts = {
        end: {event["data"]["receipt_number"]: event["data"]["total_minor"] for event in events}
        for end, events in (("tills", _sales(made)), ("HQ", _sales(hq)))
    }
    cents = {end: sum(found.values()) for end, found in amounts.items()}
    different = [f"{number}: tills {total}" for number, total in amounts["tills"].items() - amounts["HQ"].items()]
    detail = ", ".join(f"{end} {total} cents" for end, total in cents.items())
    result.check("money", amounts["tills"] == amounts["HQ"], detail, different)


def _sales(rows: list[Any]) -> list[Any]:
    return [json.loads(row[1]) for row in rows if row[0] == SALE]


def _sequences(result: Count, places: Places, tills: dict[Lane, list[Any]]) -> None:
    """Every lane counts from 1 without a hole, at HQ too, and nothing stands there twice."""
    query = "SELECT lane, json_extract(body, '$.sequence') FROM facts WHERE lane IS NOT NULL"
    at_hq: Counter[tuple[str, int]] = Counter(
        (lane, int(sequence)) for lane, sequence in _read(places.hq_db, query) if sequence is not None
    )
    twice = [f"{lane} {sequence}: {number} times" for (lane, sequence), number in at_hq.items() if number > 1]
    result.duplicates_at_hq += sum(number - 1 for number in at_hq.values())
    result.check("nothing twice at HQ", result.duplicates_at_hq == 0, f"{result.duplicates_at_hq} twice", twice)
    holes = []
    for lane, rows in tills.items():
        holes += [f"{lane.id} {sequence}" for sequence in range(1, len(rows) + 1) if (lane.id, sequence) not in at_hq]
    journal_gaps = _read(places.store_db, "SELECT lane, first, last FROM lane_gaps")
    holes += [f"{lane} {first}-{last} (in the journal)" for lane, first, last in journal_gaps]
    result.gaps = len(holes)
    result.check("no holes in the lanes' sequences", not holes, f"{len(holes)} missing", holes)


def _journal_at_hq(result: Count, places: Places, at_rest: Heads) -> None:
    """HQ has the journal, fact by fact, the gateway's own facts included, unchanged and without a hole."""
    here = f"SELECT class, seq, CAST({OF_JOURNAL} AS TEXT) FROM facts"  # noqa: S608
    everything = _read(places.store_db, here)
    journal = {(class_, seq): body for class_, seq, body in everything if seq <= at_rest.get(class_, 0)}
    query = "SELECT class, seq, CAST(body AS TEXT) FROM facts"
    hq = {(class_, seq): body for class_, seq, body in _read(places.hq_db, query)}
    result.facts_in_journal, result.facts_at_hq = len(journal), len(hq)
    differ = [f"{class_} {seq}: only in the journal" for class_, seq in journal.keys() - hq.keys()]
    differ += [f"{class_} {seq}: only at HQ" for class_, seq in hq.keys() - journal.keys()]
    differ += [
        f"{key[0]} {key[1]}: not the same bytes" for key in journal.keys() & hq.keys() if journal[key] != hq[key]
    ]
    while_stopping = len(everything) - len(journal)
    detail = f"journal {len(journal)}, HQ {len(hq)}; {while_stopping} more written while stopping"
    result.check("the whole journal is at HQ, byte for byte", not differ, detail, differ)
    holes = _read(places.hq_db, "SELECT class, contiguous, highest FROM heads WHERE highest <> contiguous")
    result.check("no holes in HQ's chains", not holes, f"{len(holes)} holes", [f"{h[0]} after {h[1]}" for h in holes])
    result.gaps += len(holes)


def _paper(result: Count, places: Places, tills: dict[Lane, list[Any]], journal: list[Any]) -> None:
    """Every receipt is on paper: once, or, where nobody could know, once more as a copy that says so."""
    outcome: dict[str, str] = {}
    for row in journal:
        if row[0] == PRINTED:
            data = json.loads(row[1])["data"]
            outcome[data["job"]] = data["state"]
    differ = []
    for lane, rows in tills.items():
        paper = read_paper(places.paper(lane))
        copies_asked = _copies_asked(places.notes(lane))
        numbers = _numbers(rows, SALE)
        for number in numbers:
            wrong = _wrong_on_paper(number, paper, copies_asked[number], outcome.get(f"receipt-{number}"))
            if wrong:
                differ.append(f"{number}: {wrong}")
            result.receipts_printed += paper.has(number)
            result.receipts_unknown += outcome.get(f"receipt-{number}") == "unknown"
            result.copies_printed += paper.duplicates[number]
        strange = (paper.originals.keys() | paper.duplicates.keys()) - numbers.keys()
        differ += [f"{number}: on paper, no such sale" for number in strange]
    detail = (
        f"sales {result.sales_made}, on paper {result.receipts_printed}, outcome unknown {result.receipts_unknown}, "
        f"copies {result.copies_printed}"
    )
    result.check("a receipt for every sale", not differ, detail, differ)


def _wrong_on_paper(number: str, paper: OnPaper, copies_asked: int, outcome: str | None) -> str:
    originals, copies = paper.originals[number], paper.duplicates[number]
    if originals > 1:
        return f"printed {originals} times without saying DUPLICATE"
    if not originals and not copies:
        return f"not on paper (the journal says {outcome})"
    if not originals and outcome == "printed":
        return "the journal says printed, but there is only a copy"
    if copies > copies_asked:
        return f"{copies} copies on paper, {copies_asked} asked for"
    return ""


def _copies_asked(file: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            if note["what"] == "copy asked for":
                found[note["sale"]] += 1
    return found


def _drawers(result: Count, places: Places, journal: list[Any], hq: list[Any]) -> None:
    """Each opening is exactly one fact. Where edge died in between, `unknown` facts say that it may have opened."""
    differ = []
    details = []
    for lane in places.lanes:
        record = places.drawer_record(lane)
        opened = len(record.read_text(encoding="utf-8").splitlines()) if record.exists() else 0
        facts = {"journal": _openings(journal, lane), "HQ": _openings(hq, lane)}
        if facts["journal"] != facts["HQ"]:
            differ.append(f"{lane.drawer}: journal {facts['journal']}, HQ {facts['HQ']}")
        seen, unknown = facts["journal"]["seen"], facts["journal"]["unknown"]
        if not seen <= opened <= seen + unknown:
            differ.append(f"{lane.drawer}: opened {opened} times, seen {seen}, unknown {unknown}")
        result.drawer_openings += opened
        details.append(f"{lane.drawer} {opened} (seen {seen}, unknown {unknown})")
    result.check("each opening of a drawer is a fact", not differ, ", ".join(details), differ)


def _openings(rows: list[Any], lane: Lane) -> Counter[str]:
    data = [json.loads(row[1])["data"] for row in rows if row[0] == OPENED]
    return Counter(one["outcome"] for one in data if one["device"] == lane.drawer)
