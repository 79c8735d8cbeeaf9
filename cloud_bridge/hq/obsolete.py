"""What HQ has sent and no store needs any more: overtaken price versions, expired commands, notices that are over.

Strategy: only what can never matter again in any store, whatever its time zone (a store's local time is between 14
hours ahead of UTC and 12 behind). It is neither replayed nor kept longer than its retention. A price version whose time
is still to come, and the one before it, are needed: a new store gets both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, and_, select

from cloud_bridge.hq.schema import commands_sent, notices_sent, prices_sent
from edge.bus.envelope import now_utc
from edge.bus.messages.commands import COMMANDS_STREAM
from edge.bus.messages.notices import NOTICES_STREAM
from edge.bus.messages.prices import PRICES_STREAM

ANYWHERE = timedelta(hours=14)
"""No store's clock on the wall is further from UTC than this."""

Range = tuple[int, int]
"""First and last number."""


def ranges(db: Connection, scope: str, stream: str) -> list[Range]:
    """The numbers of this stream that are obsolete now, in order."""
    if stream == PRICES_STREAM:
        return _overtaken(db, scope)
    if stream == COMMANDS_STREAM:
        columns = commands_sent.c
        expired = select(columns.seq).where(and_(columns.scope == scope, columns.expires_at <= now_utc()))
        return [(seq, seq) for (seq,) in db.execute(expired.order_by(columns.seq))]
    if stream == NOTICES_STREAM:
        return _over(db, scope)
    return []


def _overtaken(db: Connection, scope: str) -> list[Range]:
    columns = prices_sent.c
    rows = db.execute(select(prices_sent).where(columns.scope == scope).order_by(columns.first)).mappings().all()
    now = datetime.now(UTC)
    versions = [
        (
            datetime.fromisoformat(row["effective_at"]).replace(tzinfo=UTC),
            datetime.fromisoformat(row["published_at"]),
            (int(row["first"]), int(row["last"])),
        )
        for row in rows
    ]
    found: list[Range] = []
    for number, (effective, _, span) in enumerate(versions):
        for later_effective, later_published, _ in versions[number + 1 :]:
            wins = later_effective >= effective or later_published >= effective + ANYWHERE
            due = later_effective + ANYWHERE <= now or later_effective == effective
            if wins and due:
                found.append(span)
                break
    return found


def _over(db: Connection, scope: str) -> list[Range]:
    """Notices past their end, and those that a later message of the same id replaces; a withdrawal stays till then."""
    columns = notices_sent.c
    rows = db.execute(
        select(columns.seq, columns.id, columns.until).where(columns.scope == scope).order_by(columns.seq)
    )
    now = now_utc()
    newest: dict[str, int] = {}
    over: set[int] = set()
    for seq, id_, until in rows:
        if id_ in newest:
            over.add(newest[id_])
        newest[id_] = seq
        if until <= now:
            over.add(seq)
    return [(seq, seq) for seq in sorted(over)]
