"""Opening the store at start-up, however long the disk keeps us from it.

Strategy: a store that cannot be opened (the disk full to the last byte, failing, read-only) is no reason to end: a
process that is started again and again says nothing to anybody. The bus is joined with nothing but a status that says
what is wrong and what a person should do; tills read it and keep their facts. The store is tried again with growing
pauses. A file that stays unreadable while the disk takes other bytes is given up at last and set aside, never deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence

from edge import __version__
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Will
from edge.bus.envelope import now_utc
from edge.bus.messages.statuses import GatewayStatus
from edge.config import StoreConfig
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.journal.writer import is_full
from edge.seal import NoKey
from edge.services.status import stopped
from edge.supervisor import Pauses

log = logging.getLogger(__name__)

PAUSES = Pauses(first_s=0.5, longest_s=30.0)
READ_TRIES = 4
"""So often a file is tried that cannot be read, before it is taken for damaged."""


async def opened(
    config: StoreConfig, schemas: Sequence[tuple[str, str]], clock: Clock, stop: asyncio.Event
) -> Store | None:
    """The store, open; None when `stop` was set before that could be. Raises StoreBusy and WrongStore."""
    attempt = 0
    async with contextlib.AsyncExitStack() as stack:
        while not stop.is_set():
            attempt += 1
            try:
                return await Store.open(
                    config.store_db,
                    config.store.id,
                    clock=clock,
                    schemas=schemas,
                    reserve_bytes=config.journal.reserve_mb * 1024 * 1024,
                    unreadable_is_damage=attempt > READ_TRIES,
                )
            except (sqlite3.Error, OSError, NoKey) as error:
                if attempt == 1:
                    full = is_full(error)
                    log.critical("%s cannot be opened (%s); trying again", config.store_db, _text(error))
                    await stack.enter_async_context(_saying(config, _why(config, error, full=full), full=full))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSES.before(attempt)):
                    await stop.wait()
    return None


def _text(error: Exception) -> str:
    """SQLite's own name of an error says more than its text."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error}, {name}" if name else str(error)


def _why(config: StoreConfig, error: Exception, *, full: bool) -> str:
    if full:
        return f"the gateway's disk is full to the last byte: free some of it; {config.state_dir} takes nothing now"
    return (
        f"{config.store_db} cannot be opened ({_text(error)}): is the disk well, and may this user write in"
        f" {config.state_dir}? Tills keep their sales meanwhile"
    )


@contextlib.asynccontextmanager
async def _saying(config: StoreConfig, why: str, *, full: bool) -> AsyncIterator[None]:
    """Tell on the bus why nothing is served, as long as this lasts."""
    status = GatewayStatus(
        state="storage_full" if full else "faulted",
        link="unknown",
        since=now_utc(),
        version=__version__,
        please=f"Tell a technician: {why}",
    )
    client = Client(
        Address(socket=config.broker_socket),
        client_id=f"edge-unopened-{secrets.token_hex(6)}",
        clean_start=True,
        will=Will(topics.GATEWAY_STATUS, stopped(), retain=True),
    )
    client.on_connect.append(
        lambda _: client.publish_soon(topics.GATEWAY_STATUS, status.model_dump_json().encode(), qos=1, retain=True)
    )
    async with client:
        yield
