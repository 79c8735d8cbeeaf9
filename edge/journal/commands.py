"""`tillgate journal verify | show | export`: read-only, beside a running gateway or on a copy."""

from __future__ import annotations

import argparse
import csv
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import orjson

from edge.bus.messages.facts import FactClass
from edge.journal.audit import Report, verify
from edge.journal.reader import NoJournal, connect
from edge.journal.salvage import readable_rows
from edge.journal.sealing import Bodies
from edge.seal import Keyring, NoKey, Unsealable

_COLUMNS = ("class", "seq", "id", "lane", "lane_seq", "type", "recorded_at", "clock", "conflict", "body")
_PROBLEMS_SHOWN = 20

_EPILOG = """
FILE is a store.db, running, copied or set aside as damaged; without it, the one of the configured store.

examples:
  tillgate journal verify                                      every row there, in order, unchanged?
  tillgate journal show store.db --last 5                      the last five facts
  tillgate journal show store.db --lane 3 --class transaction  what lane 3 sold
  tillgate journal show store.db --id 0198c5b2-7c1e-...        one fact, with its conflicts
  tillgate journal export store.db > facts.jsonl               every body, one JSON object a line
  tillgate journal export store.damaged-20260504T093000000Z.db --csv > rest.csv
  tillgate journal snapshot /mnt/usb/store.snapshot            a sealed copy, while the gateway runs
  tillgate journal restore store.snapshot /var/lib/tillgate/store.db --key seal.key
  tillgate journal show copy/store.db --key seal.key           a copy, opened by the store's keyring
"""


def add_commands(subparsers: Any) -> None:
    """Put ``journal`` and its own commands on the `tillgate` command line."""
    journal = subparsers.add_parser(
        "journal",
        help="verify, show or export the record of facts",
        description="Reads the store's journal. Nothing here writes; the gateway may be running.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = journal.add_subparsers(title="commands", metavar="COMMAND", required=True)

    check = commands.add_parser(
        "verify",
        help="walk every class: contiguous, chained, unchanged",
        description="Walks every class and every hash. Exit status 0: all is well; 1: something is missing or was"
        " changed; 2: there is no journal. Gaps in a lane's own numbers are listed, but are no fault of the file.",
    )
    file_argument(check)
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(run=_verify)

    show = commands.add_parser("show", help="facts in readable form", description="Shows facts, the newest last.")
    file_argument(show)
    show.add_argument("--last", type=_positive, default=20, metavar="N", help="how many (default 20)")
    show.add_argument("--id", help="only the facts with this id")
    show.add_argument("--lane", help="only what concerns this lane")
    show.add_argument("--class", dest="fact_class", choices=[name.value for name in FactClass], help="only this class")
    show.add_argument("--json", action="store_true", help="the bodies, one JSON object a line")
    show.set_defaults(run=_show)

    export = commands.add_parser(
        "export",
        help="everything, for another program",
        description="Writes every fact to standard output, in the order it was recorded. Goes around what is"
        " unreadable in a damaged file and says so at the end (exit status 1).",
    )
    file_argument(export)
    export.add_argument("--csv", action="store_true", help="one line of columns per fact instead of the JSON bodies")
    export.set_defaults(run=_export)
    _add_snapshots(commands)


def _add_snapshots(commands: Any) -> None:
    snapshot = commands.add_parser(
        "snapshot",
        help="a sealed copy for a backup, while the gateway runs",
        description="Writes a consistent copy of the store's file, compressed and sealed with the store's key. Keep the"
        " keyring (tillgate access key show) somewhere else: without it nobody opens this copy.",
    )
    snapshot.add_argument("target", type=Path, metavar="SNAPSHOT", help="the file to write")
    file_argument(snapshot)
    snapshot.set_defaults(run=_snapshot)
    restore = commands.add_parser(
        "restore",
        help="bring a snapshot back, on this box or another",
        description="Puts the store's file of a snapshot at DB, which must not exist. It goes on as a new epoch at the"
        " gateway's next start; HQ gets what it has not. The gateway that wrote it must not run any more.",
    )
    restore.add_argument("snapshot", type=Path, metavar="SNAPSHOT", help="what `tillgate journal snapshot` wrote")
    restore.add_argument("db", type=Path, metavar="DB", help="the store.db to make")
    restore.add_argument("--key", type=Path, metavar="FILE", help="its keyring (default: the one beside DB)")
    restore.set_defaults(run=_restore)


def _snapshot(chosen: argparse.Namespace) -> int:
    import time

    from edge.journal.snapshot import take

    try:
        path = path_of(chosen)
        keyring = keyring_of(chosen) or Keyring.find(path.parent, create=False)
        header = take(path, chosen.target, keyring, at_ms=time.time_ns() // 1_000_000)
    except (NoJournal, NoKey, OSError, sqlite3.Error) as error:
        return _refuse(error)
    size_bytes = chosen.target.stat().st_size
    _say(f"{chosen.target}: store {header.store}, epoch {header.epoch}, {size_bytes} bytes, key {header.key_id}")
    return 0


def _restore(chosen: argparse.Namespace) -> int:
    from edge.journal.snapshot import BadSnapshot, restore

    try:
        keyring = keyring_of(chosen) or Keyring.find(chosen.db.parent, create=False)
        header = restore(chosen.snapshot, chosen.db, keyring)
    except (BadSnapshot, NoKey, Unsealable, OSError) as error:
        return _refuse(error)
    _say(f"{chosen.db}: store {header.store} as of {header.made_at}; a new epoch begins with the next start")
    return 0


def file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a store.db")
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/tillgate/store.toml"), metavar="FILE",
        help="without FILE: the store whose journal it is (default /etc/tillgate/store.toml)",
    )  # fmt: skip
    parser.add_argument(
        "--key", type=Path, metavar="FILE",
        help="the keyring that opens it (default: the systemd credential, else seal.key beside FILE)",
    )  # fmt: skip


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def path_of(chosen: argparse.Namespace) -> Path:
    if chosen.file is not None:
        return Path(chosen.file)
    from edge.config import BadConfig, load

    try:
        return load(chosen.config).store_db
    except BadConfig as error:
        raise NoJournal(f"no FILE was given and the configuration does not help:\n{error}") from error


def bodies_of(chosen: argparse.Namespace, path: Path) -> Bodies:
    """Opens the bodies of the journal `path`. Raises NoKey when the keyring that was named is none."""
    keyring = keyring_of(chosen)
    return Bodies.by(keyring) if keyring is not None else Bodies.beside(path)


def keyring_of(chosen: argparse.Namespace) -> Keyring | None:
    if chosen.key is None:
        return None
    try:
        return Keyring.from_text(chosen.key.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NoKey(f"{chosen.key} cannot be read: {error}") from error


def _verify(chosen: argparse.Namespace) -> int:
    try:
        report = verify(path_of(chosen), keyring_of(chosen))
    except (NoJournal, NoKey) as error:
        return _refuse(error)
    if chosen.json:
        _say(json.dumps(report_as_json(report)))
    else:
        print_report(report)
    return 0 if report.ok else 1


def print_report(report: Report) -> None:
    _say(f"{report.path}: store {report.store}, epoch {report.epoch}")
    for item in report.classes:
        span = f"{item.first}–{item.last}" if item.count else "empty"
        notes = f", {item.base} trimmed before" if item.base else ""
        notes += f", {item.conflicts} in conflict" if item.conflicts else ""
        _say(f"  {item.fact_class.value:<12} {span:>16} {item.count:>9} facts  head {item.head_hash.hex()[:16]}{notes}")
        for problem in item.problems[:_PROBLEMS_SHOWN]:
            _say(f"    ! {problem}")
        if len(item.problems) > _PROBLEMS_SHOWN:
            _say(f"    ! and {len(item.problems) - _PROBLEMS_SHOWN} more")
    for problem in report.problems:
        _say(f"  ! {problem}")
    for gap in report.lane_gaps:
        _say(f"  lane {gap.lane}: {gap.first}–{gap.last} have not come (noticed {gap.noticed_at})")
    if report.tombstones:
        _say(f"  {report.tombstones} ranges went before HQ had them (tombstones)")
    if report.salvaged:
        _say(f"  {report.salvaged} facts of an earlier, damaged journal were carried over")
    _say("everything is there and unchanged" if report.ok else "NOT in order: keep this file and tell HQ")


def report_as_json(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "store": report.store,
        "epoch": report.epoch,
        "classes": {
            item.fact_class.value: {
                "base": item.base,
                "first": item.first,
                "last": item.last,
                "count": item.count,
                "conflicts": item.conflicts,
                "head_hash": item.head_hash.hex(),
                "problems": item.problems,
            }
            for item in report.classes
        },
        "lane_gaps": [{"lane": gap.lane, "first": gap.first, "last": gap.last} for gap in report.lane_gaps],
        "tombstones": report.tombstones,
        "salvaged": report.salvaged,
        "problems": report.problems,
    }


def _show(chosen: argparse.Namespace) -> int:
    conditions = {"id": chosen.id, "lane": chosen.lane, "class": chosen.fact_class}
    given = {column: value for column, value in conditions.items() if value is not None}
    where = " WHERE " + " AND ".join(f"{column} = ?" for column in given) if given else ""
    sql = f"SELECT {', '.join(_COLUMNS)} FROM facts{where} ORDER BY row DESC LIMIT ?"  # noqa: S608
    try:
        path = path_of(chosen)
        bodies = bodies_of(chosen, path)
        db = connect(path, bodies=bodies, may_be_copy=True)
        try:
            rows = db.execute(sql, (*given.values(), chosen.last)).fetchall()
            rows = [_opened(row, bodies, _epoch(db)) for row in rows]
        finally:
            db.close()
    except (NoJournal, NoKey, Unsealable, sqlite3.Error) as error:
        return _refuse(error)
    for row in reversed(rows):
        if chosen.json:
            sys.stdout.write(row[-1].decode() + "\n")
        else:
            _say(_readable(dict(zip(_COLUMNS, row, strict=True))))
    if not rows:
        sys.stderr.write("no fact fits\n")
    return 0


def _epoch(db: sqlite3.Connection) -> str:
    """Of this file; empty when that is not readable any more."""
    for sql in ("SELECT value FROM meta WHERE key = 'epoch'", "SELECT epoch FROM seal_keys WHERE own = 1"):
        try:
            return str(db.execute(sql).fetchone()[0])
        except (sqlite3.Error, TypeError):
            continue
    return ""


def _opened(row: tuple[Any, ...], bodies: Bodies, epoch: str) -> tuple[Any, ...]:
    """A row of `_COLUMNS` with its body opened. Raises Unsealable when the key is missing."""
    return (*row[:-1], bodies.as_far_as_possible(epoch, row[0], row[1], row[-1]))


def _readable(row: dict[str, Any]) -> str:
    lane = f"lane {row['lane']}" if row["lane"] is not None else "gateway"
    number = f" no. {row['lane_seq']}" if row["lane_seq"] is not None else ""
    doubt = "" if row["clock"] == "synced" else f" (clock {row['clock']})"
    clash = f"  CONFLICT of {row['conflict']}" if row["conflict"] else ""
    try:
        data = orjson.dumps(orjson.loads(row["body"]).get("data")).decode()
    except orjson.JSONDecodeError:
        data = "unreadable body"
    return (
        f"{row['class']} {row['seq']}  {row['recorded_at']}{doubt}  {lane}{number}  {row['type']}{clash}\n"
        f"    id {row['id']}\n    {data}"
    )


def _export(chosen: argparse.Namespace) -> int:
    try:
        path = path_of(chosen)
        bodies = bodies_of(chosen, path)
        db = connect(path, bodies=bodies, may_be_copy=True)
    except (NoJournal, NoKey) as error:
        return _refuse(error)
    epoch, sealed = _epoch(db), 0
    writer = csv.writer(sys.stdout) if chosen.csv else None
    if writer is not None:
        writer.writerow([*_COLUMNS[:-1], "body_bytes"])
    written = 0
    lost: list[int] = []
    try:
        for row in readable_rows(db, ", ".join(_COLUMNS), lost):
            written += 1
            if writer is not None:
                writer.writerow([*row[:-1], len(row[-1])])
            else:
                try:
                    body = bodies.plain(epoch, row[0], row[1], row[-1])
                except Unsealable as error:
                    sealed += 1
                    sys.stderr.write(f"{row[0]} {row[1]}: {error}\n" if sealed <= _PROBLEMS_SHOWN else "")
                    continue
                sys.stdout.write(body.decode(errors="replace") + "\n")
    finally:
        db.close()
    sys.stderr.write(f"{written - sealed} facts\n")
    if sealed:
        sys.stderr.write(f"{sealed} facts could not be opened: give their keyring with --key\n")
    if lost:
        sys.stderr.write(f"{len(lost)} row numbers stand in damaged pages and could not be read\n")
    return 1 if lost or sealed else 0


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"{error}\n")
    return 2


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
