"""What is on disk about cash drawers: every commanded opening, each drawer's last known state, what its contact means.

    opening -> seen       the contact said open: recorded as `DrawerOpened`, outcome "seen"
            -> unknown    the pulse may have left and the contact could not tell: outcome "unknown"
            -> failed     certainly not opened: no fact

Strategy: the row says ``opening`` on disk before the pulse leaves, so no crash can hide that a drawer may have been
opened by command. The last known state tells, after a restart or a lost cable, whether a drawer found open has been
recorded as opened already, and whether somebody has been told that it was left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from drivers.drawers.pulse import Level
from edge.journal import lifetime
from edge.journal.clock import Stamp
from edge.journal.store import Statement, Store

OpeningState = Literal["opening", "seen", "unknown", "failed"]

KEEP_DAYS = 7

_OPENINGS_AND_STATES = """
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
_LEFT_OPEN_AND_CALIBRATION = """
ALTER TABLE drawer_states ADD COLUMN request TEXT;                  -- what opened it; NULL: closed, or no command
ALTER TABLE drawer_states ADD COLUMN told INTEGER NOT NULL DEFAULT 0;  -- 1: left open, and recorded as such
CREATE TABLE drawer_calibrations (
    device    TEXT PRIMARY KEY,
    open_when TEXT CHECK (open_when IN ('high', 'low')),            -- NULL: its contact does not tell
    at        TEXT NOT NULL                                         -- wall clock, for people
) STRICT, WITHOUT ROWID;
"""
_BY_LIFETIME = """
ALTER TABLE drawer_openings ADD COLUMN lived_ms INTEGER NOT NULL DEFAULT 0;
"""
_VERIFIED = """
ALTER TABLE drawer_openings ADD COLUMN operator_verified INTEGER NOT NULL DEFAULT 0;
"""
DRAWERS_SCHEMAS = (
    ("drawers-1", _OPENINGS_AND_STATES),
    ("drawers-2", _LEFT_OPEN_AND_CALIBRATION),
    ("drawers-3", _BY_LIFETIME),
    ("drawers-4", _VERIFIED),
)


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
    operator_verified: bool = False

    def insert(self) -> Statement:
        """Put the new row on disk."""
        return (
            "INSERT INTO drawer_openings(lane, request, device, operator_id, receipt_number, reason, at, boot,"  # noqa: S608
            " mono_ms,"
            f" state, detail, operator_verified, lived_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {lifetime.NOW})",
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
                self.operator_verified,
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
    """The last known state of a drawer, since when on the clock of `boot`, and what opened it.

    `told`: it was left open, and that is recorded.
    """

    open: bool
    boot: str
    mono_ms: int
    request: str | None = None
    told: bool = False


def remember(device: str, known: Known) -> Statement:
    """Keep the last known state of a drawer."""
    return (
        "INSERT INTO drawer_states(device, open, boot, mono_ms, request, told) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT(device) DO UPDATE SET open = excluded.open, boot = excluded.boot, mono_ms = excluded.mono_ms,"
        " request = excluded.request, told = excluded.told",
        (device, int(known.open), known.boot, known.mono_ms, known.request, int(known.told)),
    )


def known_now(open_: bool, now: Stamp, request: str | None = None) -> Known:
    """The state of a drawer that has just been seen."""
    return Known(open_, now.boot, now.mono_ms, request)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What calibration found: the level with the drawer open, None: its contact does not tell. `at` is for people."""

    open_when: Level | None
    at: str


def keep_learnt(device: str, learnt: Learnt) -> Statement:
    """Keep what calibration found, in place of what an earlier one did."""
    return (
        "INSERT INTO drawer_calibrations(device, open_when, at) VALUES (?, ?, ?)"
        " ON CONFLICT(device) DO UPDATE SET open_when = excluded.open_when, at = excluded.at",
        (device, learnt.open_when, learnt.at),
    )


def trim() -> Statement:
    """Forget settled openings from longer ago than they are kept."""
    old = lifetime.older_than(KEEP_DAYS * 86_400)
    return f"DELETE FROM drawer_openings WHERE state != 'opening' AND {old}", ()  # noqa: S608


_COLUMNS = (
    "lane, request, device, operator_id, receipt_number, reason, at, boot, mono_ms, state, detail, operator_verified"
)


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
    rows = await store.fetch_all("SELECT device, open, boot, mono_ms, request, told FROM drawer_states")
    return {
        device: Known(bool(open_), boot, ms, request, bool(told)) for device, open_, boot, ms, request, told in rows
    }


async def learnt(store: Store) -> dict[str, Learnt]:
    """What calibration found per drawer; a drawer never calibrated is absent."""
    rows = await store.fetch_all("SELECT device, open_when, at FROM drawer_calibrations")
    return {device: Learnt(open_when, at) for device, open_when, at in rows}
