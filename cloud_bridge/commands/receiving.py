"""`tillgate hq receive`: take what stores send."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import (
    SubParsers,
    broker_arguments,
    client_of,
    complain,
    database_arguments,
    with_database,
)
from cloud_bridge.profiles import PROFILES
from edge.card_guard import guard_process

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from edge.bus.client import Client

COLLECT_AFTER = 100_000
SWITCH_EVERY_S = 0.001


def add(parts: SubParsers) -> None:
    """Add it."""
    receive = parts.add_parser("receive", help="record what stores send, then confirm it (runs until stopped)")
    database_arguments(receive)
    broker_arguments(receive)
    receive.add_argument(
        "--share",
        choices=["hq", "none"],
        help="hq (default): all receivers share one subscription, $share/hq/...; none (default with --protocol 3.1.1):"
        " each gets everything, for brokers without shared subscriptions: run one, and at most one more as a spare",
    )
    receive.add_argument(
        "--confirm-key",
        type=Path,
        metavar="FILE",
        help="sign confirmations and offers, from `tillgate hq confirm-key`; the same for all receivers",
    )
    receive.add_argument("--metrics-port", type=int, metavar="PORT", help="let Prometheus scrape on this port")
    receive.add_argument("--metrics-host", default="127.0.0.1", metavar="HOST", help="default 127.0.0.1")
    receive.set_defaults(run=_receive)


def _receive(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    guard_process()
    return with_database(arguments.url, lambda engine: asyncio.run(_receive_until_told(arguments, engine)))


async def _receive_until_told(arguments: argparse.Namespace, engine: Engine) -> int:
    from cloud_bridge.hq.receiver import Receiver
    from cloud_bridge.hq.voice import Voice
    from cloud_bridge.pace import Budget
    from edge.supervisor import keep_running

    # A batch is thousands of small objects that live until it is recorded: looking for cycles among them every 700
    # took a quarter of the time.
    gc.set_threshold(COLLECT_AFTER)
    # A critical fact's transaction is many short steps, and each may wait so long for a batch that is being unpacked.
    sys.setswitchinterval(SWITCH_EVERY_S)

    try:
        client = client_of(arguments)
        voice = Voice.load(arguments.confirm_key) if arguments.confirm_key else None
    except ValueError as error:
        return complain(str(error))
    # $share is no part of MQTT 3.1.1: a broker that does not know it takes it for a topic, on which nothing ever comes.
    shared = (arguments.share or ("hq" if arguments.protocol == "5" else "none")) == "hq"
    limits = PROFILES[arguments.profile] if arguments.profile else None
    budget = Budget(limits.publishes_per_s, limits.bytes_per_s) if limits else None
    receiver = Receiver(engine, client, shared=shared, budget=budget, voice=voice)
    client.on_connect.append(lambda _: _warn_of_sharing(client) if shared else None)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with client, asyncio.TaskGroup() as group:
        running = group.create_task(keep_running("receiver", receiver.run), name="receiver")
        logging.getLogger("hq").info("receiving from %s into %s", client.address, engine.url.render_as_string())
        if voice is not None:
            logging.getLogger("hq").info("confirmations are signed; the confirm key is good until %s", voice.not_after)
        tasks = [running]
        if arguments.metrics_port is not None:
            from cloud_bridge.metrics import ReceiverMetrics

            serving = ReceiverMetrics(receiver, client).serve(arguments.metrics_host, arguments.metrics_port)
            tasks.append(group.create_task(serving, name="metrics"))
        await stop.wait()
        for task in tasks:
            task.cancel()
    return 0


def _warn_of_sharing(client: Client) -> None:
    if not client.server_limits.shared_subscriptions:
        logging.getLogger("hq").error("%s has no shared subscriptions: use --share none", client.address)
