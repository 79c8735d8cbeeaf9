"""A store with people in it: a real journal, real keys; and what of a secret can still be found in its files."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

from edge.bus import envelope
from edge.bus.messages import facts
from edge.journal.clock import Clock
from edge.journal.reader import connect
from edge.journal.store import Accepted, Conflict, NewFact, Store
from edge.seal import Keyring
from edge.services.facts import _checked

STORE = "s1"
MEMBER = "tillgate.member.identified.v1"


async def a_store(path: Path, keyring: Keyring, **more: Any) -> Store:
    return await Store.open(path, STORE, clock=Clock(), keyring=keyring, reserve_bytes=0, **more)


def member_event(member: str, number: int, *, lane: str = "1", id_: str | None = None, **data: Any) -> dict[str, Any]:
    """A member's card was read: as the till of `lane` sends it."""
    event = envelope.build(
        MEMBER, envelope.lane_source(STORE, lane), {"receipt_number": f"{number:06}", "member": member, **data}
    )
    event["sequence"] = f"{number:010}"
    return {**event, "id": id_} if id_ is not None else event


def checked(event: dict[str, Any], lane: str = "1") -> NewFact:
    """As the intake makes it of what came."""
    return _checked(event, envelope.lane_source(STORE, lane), lane)


async def take(store: Store, *events: dict[str, Any], lane: str = "1") -> list[Accepted | Conflict]:
    return list(await asyncio.gather(*(store.append(checked(event, lane)) for event in events)))


def sale_event(number: int, *, lane: str = "1") -> dict[str, Any]:
    line = {"line": 1, "item": "4006381333931", "text": "Pen", "quantity": "1", "unit_price_minor": 199,
            "amount_minor": 199}  # fmt: skip
    data = {"business_day_date": "2026-05-04", "operator_id": "anna", "receipt_number": f"{number:06}",
            "currency": "EUR", "lines": [line], "total_minor": 199}  # fmt: skip
    event = envelope.build("tillgate.sale.completed.v1", envelope.lane_source(STORE, lane), data)
    event["sequence"] = f"{number:010}"
    facts.check(event, envelope.lane_source(STORE, lane))
    return event


def rows(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """As a reader beside the store sees it; ``plain(class, seq, body)`` opens a body."""
    with closing(connect(path)) as db:
        return db.execute(sql, parameters).fetchall()


def files_with(folder: Path, *needles: bytes) -> list[str]:
    """Which files of the folder hold one of these bytes, wherever: free pages and logs too."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            found += [f"{file.name}: {needle!r}" for needle in needles if needle in content]
    return found
