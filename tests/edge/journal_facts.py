"""Facts, stores and clocks for the journal's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.store import NewFact, Store

STORE_ID = "0042"


class TurnedClock:
    """The parts of a clock that a test turns by hand."""

    def __init__(self, boot: str = "boot-one", wall_ms: int = 1_770_000_000_000, mono_ms: int = 1_000) -> None:
        self.wall_ms = wall_ms
        self.mono_ms = mono_ms
        self.synced: bool | None = False
        self.clock = Clock(
            wall_ms=lambda: self.wall_ms,
            mono_ms=lambda: self.mono_ms,
            synced=lambda: self.synced,
            boot=boot,
            marker=Path("/nonexistent/synchronized"),
        )

    def forward(self, ms: int) -> None:
        self.wall_ms += ms
        self.mono_ms += ms


def fact(
    lane: str | None = "3",
    lane_seq: int | None = 1,
    *,
    id_: str | None = None,
    fact_class: FactClass = FactClass.TRANSACTION,
    type_: str = "tillgate.sale.completed.v1",
    **data: Any,
) -> NewFact:
    """A fact of a lane, or with `lane` None one of the gateway."""
    source = envelope.lane_source(STORE_ID, lane) if lane is not None else envelope.gateway_source(STORE_ID)
    event = envelope.build(type_, source, {"total_minor": 1250, **data}, sequence=lane_seq, id_=id_)
    return NewFact(event["id"], type_, fact_class, source, event["time"], lane, lane_seq, event)


def telemetry(**data: Any) -> NewFact:
    return fact(None, None, fact_class=FactClass.TELEMETRY, type_="tillgate.device.changed.v1", **data)


@asynccontextmanager
async def opened(
    path: Path,
    *,
    clock: Clock | None = None,
    schemas: Sequence[tuple[str, str]] = (),
    reserve_bytes: int = 0,
    free_bytes: Callable[[], int] = lambda: 1 << 40,
    max_pages: int | None = None,
):
    """A store that is closed again at the end."""
    store = await Store.open(
        path,
        STORE_ID,
        clock=clock or Clock(),
        schemas=schemas,
        reserve_bytes=reserve_bytes,
        free_bytes=free_bytes,
        max_pages=max_pages,
    )
    try:
        yield store
    finally:
        await store.close()
