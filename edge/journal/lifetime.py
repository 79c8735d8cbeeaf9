"""How long this gateway has been running in all: what the age of remembered things is counted in.

Strategy: the wall clock may jump by years, and a boot's own clock ends with it. So the store keeps a sum of running
time, brought up to date when it is opened and every hour. Whatever is to be forgotten after a while carries the sum as
it stood (`NOW`, in the statement that writes it) and goes when the sum has grown enough (`older_than`). Time without
power does not count, and neither may the last hour before a power cut: things stay longer, never shorter.
"""

from __future__ import annotations

from edge.journal.clock import Stamp
from edge.journal.entries import Statement

TICK_S = 3600
"""How often the sum is brought up to date, at least."""

STEP = "journal-2"
SCHEMA = """
CREATE TABLE lifetime (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    lived_ms INTEGER NOT NULL,
    boot     TEXT    NOT NULL,
    mono_ms  INTEGER NOT NULL          -- of that boot: up to here it is counted
) STRICT;
INSERT INTO lifetime VALUES (1, 0, '', 0);
"""

NOW = "(SELECT lived_ms FROM lifetime)"
"""SQL: the sum, up to an hour behind."""


def tick(now: Stamp) -> Statement:
    """Count what has passed since the last time; of a new boot all that it has been up."""
    return (
        "UPDATE lifetime SET lived_ms = lived_ms + CASE WHEN boot = ?1 THEN max(0, ?2 - mono_ms) ELSE ?2 END,"
        " boot = ?1, mono_ms = ?2",
        (now.boot, now.mono_ms),
    )


def older_than(seconds: float) -> str:
    """SQL condition on a column ``lived_ms``: the row is certainly older than this."""
    return f"lived_ms < {NOW} - {int((seconds + 2 * TICK_S) * 1000)}"
