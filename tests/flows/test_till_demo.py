"""The demo store, end to end: a short day with its faults, counted; and that nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.counting import count, journal_heads
from demo.places import Places
from demo.receipt import read_paper

REPORT = [
    "sales_made",
    "accepted",
    "in_journal",
    "at_hq",
    "duplicates_at_hq",
    "gaps",
    "receipts_printed",
    "receipts_unknown",
    "drawer_openings",
    "wan_cut_s",
    "kills",
    "seconds",
]
WITHIN_S = 120.0


def processes_of(state: Path) -> list[int]:
    """Every process whose command line names the state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if str(state).encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def wait_until_gone(state: Path) -> None:
    """Wait until no process of `state` is left, and fail by the test's own time-out if that never comes."""
    until = time.monotonic() + WITHIN_S
    while left := processes_of(state):
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_a_short_day_with_its_faults_agrees_at_every_end(tmp_path: Path) -> None:
    state = tmp_path / "s"
    command = [sys.executable, "-m", "demo", "--once", "--json", "--sales", "4", "--seed", "3", "--state", str(state)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=380)
    assert ran.returncode == 0, ran.stderr
    wait_until_gone(state)
    report = json.loads(ran.stdout)
    assert list(report)[: len(REPORT)] == REPORT
    for key in ("sales_made", "accepted", "in_journal", "at_hq", "receipts_printed"):
        assert report[key] == 8, key
    assert (report["duplicates_at_hq"], report["gaps"], report["kills"]) == (0, 0, 2)
    assert report["wan_cut_s"] > 0
    assert {fault["what"] for fault in report["killed"]} == {"edge", "bridge"}
    the_count_notices_what_is_wrong(state)


def the_count_notices_what_is_wrong(state: Path) -> None:
    """Spoil each end of a day that agreed; the count has to name what is wrong."""
    places = Places(state, 2)
    try:
        at_rest = journal_heads(places)
        assert count(places, at_rest).agrees
        number = max(read_paper(places.paper(places.lanes[0])).originals)

        def bad() -> dict[str, str]:
            return {check.name: " ".join(check.differ) for check in count(places, at_rest).checks if not check.good}

        paper = places.paper(places.lanes[0])
        whole = paper.read_text(encoding="utf-8")
        strips = whole.splitlines(keepends=True)
        paper.write_text("".join(line for line in strips if number not in line), encoding="utf-8")
        assert f"{number}: not on paper" in bad()["a receipt for every sale"]
        paper.write_text(whole + next(line for line in strips if number in line), encoding="utf-8")
        assert f"{number}: printed 2 times" in bad()["a receipt for every sale"]
        paper.write_text(whole, encoding="utf-8")

        drawer = next(record for lane in places.lanes if (record := places.drawer_record(lane)).exists())
        drawer.write_text(drawer.read_text() + '{"opened_by": "nobody knows"}\n' * 9)
        assert "each opening of a drawer is a fact" in bad()

        with contextlib.closing(sqlite3.connect(places.hq_db, isolation_level=None)) as hq:
            twice = (
                "INSERT INTO facts SELECT store, epoch, class, seq + 1000, id, type, lane, time, recorded_at, body,"
                " hash, received_at FROM facts WHERE type = 'tillgate.sale.completed.v1' LIMIT 1"
            )
            hq.execute(twice)
            found = count(places, at_rest)
            assert found.duplicates_at_hq > 0
            assert not found.agrees
            hq.execute("DELETE FROM facts WHERE seq > 1000")
            hq.execute("DELETE FROM facts WHERE body LIKE ? AND class = 'critical'", (f"%{number}%",))
        differ = bad()
        assert f"{number}: made 1, accepted 1, in the journal 1, at HQ 0" in differ["tenders"]
        assert "critical" in differ["the whole journal is at HQ, byte for byte"]
    finally:
        places.release()


@contextlib.contextmanager
def open_store(state: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "demo", "--plain", "--state", str(state), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as store:
        try:
            yield store
        finally:
            store.kill()


def lines_until(store: subprocess.Popen[str], text: str) -> list[str]:
    assert store.stdout is not None
    lines = []
    for line in store.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


@pytest.mark.timeout(400)
def test_an_open_store_stops_cleanly_goes_on_and_leaves_nothing_behind_when_killed(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with open_store(state, "--lanes", "1") as store:
        assert any("HQ publishes prices" in line for line in lines_until(store, "lane-1 sold"))
        store.send_signal(signal.SIGTERM)
        lines_until(store, "goes on from")
        assert store.wait(WITHIN_S) == 0
    wait_until_gone(state)
    with open_store(state, "--lanes", "1") as store:
        lines = lines_until(store, "till lane-1: online")
        assert not any("HQ publishes prices" in line for line in lines)
        store.kill()
        store.wait(WITHIN_S)
        wait_until_gone(state)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--json"], "--json goes with --once"),
        (["--sales", "3"], "--sales goes with --once"),
        (["--once", "--sales", "1"], "at least 6 sales"),
        (["--lanes", "9"], "must be 1 to 6"),
    ],
)
def test_what_cannot_be_asked_is_answered_with_what_can(arguments: list[str], says: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, cwd=os.getcwd())
    assert ran.returncode == 2
    assert says in ran.stderr


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    first = Places(tmp_path, 1)
    command = [sys.executable, "-m", "demo", "--plain", "--state", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
    assert ran.returncode == 2
    assert "runs in" in ran.stderr
    first.release()
