"""The print ledger: what became of every job, on disk.

    queued -> sending -> sent -> printed        all of it had left; proof came
       |         |         +--> unknown         ... and no proof: a person looks at the paper
       |         |         +--> (ends as sent where the printer cannot prove printing)
       |         +--> unknown                   it had started, and its end was not seen
       |         +--> queued                    not one byte had left
       +--> expired, failed, cancelled          certainly not printed (cancelled: the till took it back)

Strategy: a row is on disk before its handler may answer, and says ``sending`` on disk before the first byte leaves. So
after a crash a row tells what may have happened: ``queued`` has certainly not started, ``sending`` may have, all of
``sent`` is in the printer. The row of a job that ended changes in the same transaction that records `PrintFinished`.

Time to live is counted on the clock that runs since boot. A job of an earlier boot is expired whatever the wall clock
says: a small board wakes up in the past, and a ticket from last night must not print in the morning.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge.journal import lifetime
from edge.journal.sealing import Place
from edge.journal.store import Statement, Store
from edge.seal import Unsealable

State = Literal["queued", "sending", "sent", "printed", "unknown", "failed", "expired", "cancelled"]

log = logging.getLogger(__name__)

PLACE = Place("print_jobs", ("lane", "job"), "content", "print")

FORGET_SLICE = 50
KEEP_DAYS = 7
"""How long an ended job can still be asked for or printed again."""

_JOBS = """
CREATE TABLE print_jobs (
    row            INTEGER PRIMARY KEY,  -- order of arrival
    lane           TEXT    NOT NULL,
    job            TEXT    NOT NULL,     -- chosen by the till
    device         TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN
        ('queued', 'sending', 'sent', 'printed', 'unknown', 'failed', 'expired', 'cancelled')),
    ended          INTEGER NOT NULL,     -- 1: nothing more will be done about it
    proven         INTEGER NOT NULL,     -- 1: the printer said so itself
    reason         TEXT    NOT NULL,     -- why it is not printed; empty otherwise
    digest         BLOB    NOT NULL,     -- of what the till sent: same job id and same digest is the same job
    content        BLOB    NOT NULL,     -- the bytes for the printer, sealed (PLACE)
    replaced       TEXT    NOT NULL,     -- characters that the printer does not have
    token          BLOB    NOT NULL,     -- what the printer sends back as proof
    attempts       INTEGER NOT NULL,
    original       TEXT,                 -- a reprint: the job it repeats
    reprint_reason TEXT,
    created_at     TEXT    NOT NULL,     -- wall clock, for people
    boot           TEXT    NOT NULL,
    expires_ms     INTEGER NOT NULL,     -- on the clock of that boot
    ended_at       TEXT,
    UNIQUE (lane, job)
) STRICT;
CREATE INDEX print_jobs_open ON print_jobs (row) WHERE ended = 0;
CREATE INDEX print_jobs_by_age ON print_jobs (ended_at) WHERE ended = 1;
"""
_FAILOVER = """
ALTER TABLE print_jobs ADD COLUMN asked_device TEXT;  -- where it was to be printed, when another printer stood in
"""
_BY_LIFETIME = """
ALTER TABLE print_jobs ADD COLUMN lived_ms INTEGER NOT NULL DEFAULT 0;
DROP INDEX print_jobs_by_age;
CREATE INDEX print_jobs_by_lifetime ON print_jobs (lived_ms) WHERE ended = 1;
"""
PRINTING_SCHEMAS = (("printing-1", _JOBS), ("printing-2", _FAILOVER), ("printing-3", _BY_LIFETIME))


@dataclass(slots=True, eq=False, weakref_slot=True)
class Job:
    """One row of the ledger. `content` is what the printer gets; `token` is 4 printable ASCII bytes.

    `device` is the printer that prints it, `asked_device` the one it waited for before, if another stood in. `ended`:
    its end is on disk.
    """

    lane: str
    job: str
    device: str
    digest: bytes
    content: bytes
    token: bytes
    boot: str
    expires_ms: int
    created_at: str
    replaced: str = ""
    original: str | None = None
    reprint_reason: str | None = None
    state: State = "queued"
    ended: bool = False
    proven: bool = False
    reason: str = ""
    attempts: int = 0
    asked_device: str | None = None

    def result(self) -> dict[str, Any]:
        """What a till is told of it."""
        result: dict[str, Any] = {
            "job": self.job,
            "state": self.state,
            "ended": self.ended,
            "proven": self.proven,
            "device": self.device,
        }
        if self.reason:
            result["reason"] = self.reason
        if self.replaced:
            result["replaced"] = self.replaced
        if self.original is not None:
            result["original"] = self.original
        if self.asked_device is not None:
            result["instead_of"] = self.asked_device
        return result

    def insert(self, store: Store) -> Statement:
        """Put the new row on disk."""
        content = store.sealed(PLACE, (self.lane, self.job), self.content)
        return (
            "INSERT INTO print_jobs(lane, job, device, state, ended, proven, reason, digest, content, replaced, token,"
            " attempts, original, reprint_reason, created_at, boot, expires_ms)"
            " VALUES (?, ?, ?, ?, 0, 0, '', ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
            (
                self.lane,
                self.job,
                self.device,
                self.state,
                self.digest,
                content,
                self.replaced,
                self.token,
                self.original,
                self.reprint_reason,
                self.created_at,
                self.boot,
                self.expires_ms,
            ),
        )

    def update(self, ended_at: str | None) -> Statement:
        """Bring the row up to date; with `ended_at` the job has ended."""
        return (
            "UPDATE print_jobs SET state = ?, ended = ?, proven = ?, reason = ?, attempts = ?,"  # noqa: S608  # a constant
            " ended_at = ?,"
            f" lived_ms = {lifetime.NOW} WHERE lane = ? AND job = ?",
            (
                self.state,
                int(ended_at is not None),
                int(self.proven),
                self.reason,
                self.attempts,
                ended_at,
                self.lane,
                self.job,
            ),
        )

    def moved(self) -> Statement:
        """Note that another printer prints it."""
        return (
            "UPDATE print_jobs SET device = ?, asked_device = ? WHERE lane = ? AND job = ?",
            (self.device, self.asked_device, self.lane, self.job),
        )


_COLUMNS = (
    "lane, job, device, digest, content, token, boot, expires_ms, created_at, replaced, original, reprint_reason,"
    " state, ended, proven, reason, attempts, asked_device"
)


def _job(store: Store, row: Sequence[Any]) -> Job:
    job = Job(*row)
    try:
        job.content = store.plain(PLACE, (job.lane, job.job), job.content)
    except Unsealable as error:
        log.error("what job %s of lane %s was to print cannot be read: %s", job.job, job.lane, error)
        # As of an earlier boot: it is not printed any more.
        job.content, job.boot = b"", ""
    job.ended, job.proven = bool(job.ended), bool(job.proven)
    return job


class PrintLedger:
    """Reads the ledger; writing is done by the statements of `Job`, in the transactions of whoever prints."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def find(self, lane: str, job: str) -> Job | None:
        """The job that this lane calls so."""
        row = await self.store.fetch_one(
            f"SELECT {_COLUMNS} FROM print_jobs WHERE lane = ? AND job = ?",  # noqa: S608  # a constant
            (lane, job),
        )
        return _job(self.store, row) if row is not None else None

    async def lane_of(self, job: str) -> str | None:
        """Some lane that has a job of this name."""
        row = await self.store.fetch_one("SELECT lane FROM print_jobs WHERE job = ? LIMIT 1", (job,))
        return str(row[0]) if row is not None else None

    async def unended(self) -> list[Job]:
        """What an earlier life of this process left, in order of arrival."""
        rows = await self.store.fetch_all(f"SELECT {_COLUMNS} FROM print_jobs WHERE ended = 0 ORDER BY row")  # noqa: S608
        return [_job(self.store, row) for row in rows]

    async def forget(self, names: Callable[[bytes], object]) -> int:
        """Forget ended jobs in whose bytes `names` finds something, as if they were older; how many.

        What was drawn as a picture is not found.
        """
        found: list[tuple[str, str]] = []
        after = 0
        while rows := await self.store.fetch_all(
            "SELECT row, lane, job, content FROM print_jobs WHERE ended = 1 AND row > ? ORDER BY row LIMIT ?",
            (after, FORGET_SLICE),
        ):
            after = rows[-1][0]
            for _, lane, job, stored in rows:
                with contextlib.suppress(Unsealable):  # nobody can print it either
                    if names(self.store.plain(PLACE, (lane, job), stored)):
                        found.append((lane, job))
        statement = "DELETE FROM print_jobs WHERE ended = 1 AND lane = ? AND job = ?"
        await self.store.write([(statement, place) for place in found])
        return len(found)

    async def by_token(self, device: str, token: bytes) -> Job | None:
        """The latest job of `device` that carried this token and whose outcome is not known."""
        row = await self.store.fetch_one(
            f"SELECT {_COLUMNS} FROM print_jobs WHERE device = ? AND token = ? AND state = 'unknown'"  # noqa: S608
            " ORDER BY row DESC LIMIT 1",
            (device, token),
        )
        return _job(self.store, row) if row is not None else None


def trim() -> Statement:
    """Forget jobs that ended longer ago than they are kept."""
    return f"DELETE FROM print_jobs WHERE ended = 1 AND {lifetime.older_than(KEEP_DAYS * 86_400)}", ()  # noqa: S608


_TOKEN_ALPHABET = bytes(range(0x21, 0x7F))


def token_of(number: int) -> bytes:
    """Four printable ASCII bytes; the same one comes back after 78 million jobs."""
    out = bytearray()
    for _ in range(4):
        number, digit = divmod(number, len(_TOKEN_ALPHABET))
        out.append(_TOKEN_ALPHABET[digit])
    return bytes(out)
