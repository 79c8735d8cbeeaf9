"""What is on disk about cash drawers: every opening that was commanded, and the last known state of each drawer.

    opening -> seen       the contact said open: recorded as `DrawerOpened`, outcome "seen"
            -> unknown    the pulse may have left and the contact could not tell: outcome "unknown"
            -> failed     certainly not opened: no fact

Strategy: the row says ``opening`` on disk before the pulse leaves, so no crash can hide that a drawer may have been
opened by command. The last known state tells, after a restart or a lost cable, whether a drawer found open has been
recorded as opened already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edge.journal.clock import Stamp
from edge.journal.store import Statement, Store

OpeningState = Literal["opening", "seen", "unknown", "failed"]

KEEP_DAYS = 7

DRAWERS_SCHEMA = """
CREATE TABLE drawer_openings (
    row            INTEGER PRIMARY KEY,
    lane           TEXT    NOT NULL,
    request        TEXT    NOT NULL,
    device         TEXT    NOT NULL,
    operator_id    TEXT    NOT NULL,
    receipt_number TEXT,
    reason         TEXT,
    at             TEXT    NOT NULL,     -- wall clock, for people
    boot           TEXT    NOT NULL,
    mono_ms        INTEGER NOT NULL,     -- on the clock of that boot
    state          TEXT    NOT NULL CHECK (state IN ('opening', 'seen', 'unknown', 'failed')),
    detail         TEXT    NOT NULL,     -- why it failed or is unknown
    UNIQUE (lane, request)
) STRICT;
CREATE INDEX drawer_openings_unsettled ON drawer_openings (row) WHERE state = 'opening';
CREATE TABLE drawer_states (
    device  TEXT    PRIMARY KEY,
    open    INTEGER NOT NULL,            -- 1: open when last known
    boot    TEXT    NOT NULL,
    mono_ms INTEGER NOT NULL             -- since when, on the clock of that boot
) STRICT, WITHOUT ROWID;
"""


@dataclass(slots=True, eq=False)
class Opening:
    """One commanded opening, as its row."""

    lane: str
    request: str
    device: str
    operator_id: str
    receipt_number: str | None
    reason: str | None
    at: str
    boot: str
    mono_ms: int
    state: OpeningState = "opening"
    detail: str = ""

    def insert(self) -> Statement:
        """Put the new row on disk."""
        return (
            "INSERT INTO drawer_openings(lane, request, device, operator_id, receipt_number, reason, at, boot, mono_ms,"
            " state, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.lane,
                self.request,
                self.device,
                self.operator_id,
                self.receipt_number,
                self.reason,
                self.at,
                self.boot,
                self.mono_ms,
                self.state,
                self.detail,
            ),
        )

    def update(self) -> Statement:
        """Bring the row's outcome up to date."""
        return (
            "UPDATE drawer_openings SET state = ?, detail = ? WHERE lane = ? AND request = ?",
            (self.state, self.detail, self.lane, self.request),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """The last known state of a drawer, and since when on the clock of `boot`."""

    open: bool
    boot: str
    mono_ms: int


def remember(device: str, known: Known) -> Statement:
    """Keep the last known state of a drawer."""
    return (
        "INSERT INTO drawer_states(device, open, boot, mono_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT(device) DO UPDATE SET open = excluded.open, boot = excluded.boot, mono_ms = excluded.mono_ms",
        (device, int(known.open), known.boot, known.mono_ms),
    )


def known_now(open_: bool, now: Stamp) -> Known:
    """The state of a drawer that has just been seen."""
    return Known(open_, now.boot, now.mono_ms)


def trim(before: str) -> Statement:
    """Forget settled openings from before this wall time (RFC 3339, UTC)."""
    return "DELETE FROM drawer_openings WHERE state != 'opening' AND at < ?", (before,)


_COLUMNS = "lane, request, device, operator_id, receipt_number, reason, at, boot, mono_ms, state, detail"


async def find(store: Store, lane: str, request: str) -> Opening | None:
    """The opening that this request commanded, if it came so far."""
    row = await store.fetch_one(
        f"SELECT {_COLUMNS} FROM drawer_openings WHERE lane = ? AND request = ?",  # noqa: S608  # a constant
        (lane, request),
    )
    return Opening(*row) if row is not None else None


async def unsettled(store: Store) -> list[Opening]:
    """Openings that an earlier life of this process left without an outcome."""
    rows: list[tuple[Any, ...]] = await store.fetch_all(
        f"SELECT {_COLUMNS} FROM drawer_openings WHERE state = 'opening' ORDER BY row"  # noqa: S608
    )
    return [Opening(*row) for row in rows]


async def last_known(store: Store) -> dict[str, Known]:
    """The last known state per drawer; a drawer never seen is absent."""
    rows = await store.fetch_all("SELECT device, open, boot, mono_ms FROM drawer_states")
    return {device: Known(bool(open_), boot, mono_ms) for device, open_, boot, mono_ms in rows}
