"""Audit entries for people: which of them are asked for, and how they are shown. For the store's end and for HQ's."""

from __future__ import annotations

import argparse
import csv
import sys
from typing import Any

import orjson

from edge.bus.messages.facts import AuditAction

COLUMNS = ("at", "clock", "action", "outcome", "person", "second_person", "role", "lane", "subject", "count", "detail")


def filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which entries to list, and how."""
    parser.add_argument("--person", metavar="ID", help="who did it, approved of it, or whom it was done to")
    parser.add_argument("--action", metavar="ACTION", help="an action, or a family of them (person, override, ...)")
    parser.add_argument("--lane", metavar="ID", help="at this lane")
    parser.add_argument("--outcome", choices=["done", "refused", "failed"], help="only these")
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="recorded on this day, UTC by the gateway's clock")
    parser.add_argument("--last", type=int, default=200, metavar="N", help="at most so many (default 200)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="comma-separated, with a heading")


def wrong_action(action: str | None) -> str | None:
    """What is wrong with a filter; None when there is such an action or family."""
    families = {str(one).partition(".")[0] for one in AuditAction}
    if action is None or action in families or action in set(AuditAction):
        return None
    return f"there is no action {action!r}; `tillgate audit actions` lists them"


def entry_of(at: str | None, body: bytes | str, **beside: str) -> dict[str, Any]:
    """One line of the list, from a fact's body; `beside` what else stands in it."""
    try:
        event = orjson.loads(body)
        data, clock = event.get("data"), event.get("tgclock")
    except (orjson.JSONDecodeError, AttributeError):
        data = clock = None
    if not isinstance(data, dict):
        data = {"action": "?", "detail": "this entry was changed and cannot be read: tillgate audit verify"}
    return {**beside, "at": at, "clock": clock, **{name: data.get(name) for name in COLUMNS[2:]}}


def fits(entry: dict[str, Any], chosen: argparse.Namespace) -> bool:
    """Whether it is one that was asked for."""
    action = str(entry["action"])
    return (
        (chosen.person is None or chosen.person in (entry["person"], entry["second_person"], entry["subject"]))
        and (chosen.action is None or chosen.action in (action, action.partition(".")[0]))
        and (chosen.lane is None or entry["lane"] == chosen.lane)
        and (chosen.outcome is None or entry["outcome"] == chosen.outcome)
        and (chosen.day is None or str(entry["at"]).startswith(chosen.day))
    )


def show(entries: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Print them as was asked."""
    if chosen.csv:
        writer = csv.DictWriter(sys.stdout, list(entries[0]) if entries else list(COLUMNS))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in entry.items()} for entry in entries)
        return
    for entry in entries:
        sys.stdout.write((orjson.dumps(entry).decode() if chosen.json else _line(entry)) + "\n")
    if not entries:
        sys.stderr.write("nothing fits\n")


def _cell(value: Any) -> Any:
    """Not to be taken for a formula by a spreadsheet: some of it is what strangers said."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _line(entry: dict[str, Any]) -> str:
    doubt = "" if entry["clock"] == "synced" else "?"
    store = f" {entry['store']}" if "store" in entry else ""
    who = entry["person"] or "-"
    who += f" ({entry['role']})" if entry["role"] else ""
    who += f", approved by {entry['second_person']}" if entry["second_person"] else ""
    lane = f" at lane {entry['lane']}" if entry["lane"] else ""
    what = f" {entry['subject']}" if entry["subject"] else ""
    outcome = "" if entry["outcome"] == "done" else f" {entry['outcome']}".upper()
    count = f" x{entry['count']}" if (entry["count"] or 1) > 1 else ""
    detail = f": {entry['detail']}" if entry["detail"] else ""
    text = f"{entry['at']}{doubt}{store} {entry['action']}{outcome}{count} {who}{lane}{what}{detail}"
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
