"""`tillgate hq receive`: take what stores send."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import (
    SubParsers,
    broker_arguments,
    client_of,
    complain,
    database_arguments,
    with_database,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

COLLECT_AFTER = 100_000
SWITCH_EVERY_S = 0.001


def add(parts: SubParsers) -> None:
    """Add it."""
    receive = parts.add_parser("receive", help="record what stores send, then confirm it (runs until stopped)")
    database_arguments(receive)
    broker_arguments(receive)
    receive.set_defaults(run=_receive)


def _receive(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    return with_database(arguments.url, lambda engine: asyncio.run(_receive_until_told(arguments, engine)))


async def _receive_until_told(arguments: argparse.Namespace, engine: Engine) -> int:
    from cloud_bridge.hq.receiver import Receiver
    from edge.supervisor import keep_running

    # A batch is thousands of small objects that live until it is recorded: looking for cycles among them every 700
    # took a quarter of the time.
    gc.set_threshold(COLLECT_AFTER)
    # A critical fact's transaction is many short steps, and each may wait so long for a batch that is being unpacked.
    sys.setswitchinterval(SWITCH_EVERY_S)

    try:
        client = client_of(arguments)
    except ValueError as error:
        return complain(str(error))
    receiver = Receiver(engine, client)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with client, asyncio.TaskGroup() as group:
        running = group.create_task(keep_running("receiver", receiver.run), name="receiver")
        logging.getLogger("hq").info("receiving from %s into %s", client.address, engine.url.render_as_string())
        await stop.wait()
        running.cancel()
    return 0
