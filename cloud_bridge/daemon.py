"""The bridge process: its composition root. Start-up reads as a list; one TaskGroup owns everything that runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from cloud_bridge.hq_link import HqLink, Unusable, Work, link_up
from cloud_bridge.report import Report, unknown
from edge.bus import topics
from edge.bus.client import Address, Client, Disconnected, Will
from edge.card_guard import guard_process
from edge.config import BadConfig, StoreConfig, load
from edge.supervisor import keep_running

log = logging.getLogger("bridge")

NICENESS = 10
"""A drain may take what edge and broker leave of the processor: a till that scans does not feel it."""

TRY_AGAIN = 75
"""Exit status: start this process again (EX_TEMPFAIL of sysexits.h)."""

GOODBYE_WITHIN_S = 2.0


async def serve(config: StoreConfig, stop: asyncio.Event) -> None:
    """Run the bridge until `stop` is set. Unusable when the configuration cannot work."""
    # A till that knew this name could take our place on the broker, so it is made anew each time.
    bus = Client(
        Address(socket=config.broker_socket),
        client_id=f"bridge-{secrets.token_hex(8)}",
        clean_start=True,
        will=Will(topics.BRIDGE_STATUS, unknown("the bridge is not running")),
    )

    def tell(payload: bytes) -> None:
        if bus.connected:  # else it is said again on connecting
            bus.publish_soon(topics.BRIDGE_STATUS, payload, retain=True)

    report = Report(tell, config.cloud.confirm if config.cloud else "hq")
    bus.on_connect.append(lambda _: report.say_again())
    async with contextlib.AsyncExitStack() as stack:
        work: list[Work] = [("report", report.run)]
        to_hq: HqLink | None = None
        if config.cloud is None:
            report.say("unknown", "no [cloud] in store.toml: the store works alone and keeps everything")
        else:
            to_hq = await link_up(config, config.cloud, bus, report, stack)
            work += to_hq.work
        await stack.enter_async_context(bus)
        if to_hq is not None:
            await stack.enter_async_context(to_hq.client)
        async with asyncio.TaskGroup() as group:
            # A disk that is full or fails is no bug: what waits for it tries again.
            running = [
                group.create_task(keep_running(name, part, expected=(sqlite3.Error,)), name=name) for name, part in work
            ]
            log.info("bridge of store %s runs", config.store.id)
            await stop.wait()
            for task in running:
                task.cancel()
        with contextlib.suppress(TimeoutError, Disconnected):
            async with asyncio.timeout(GOODBYE_WITHIN_S):
                await bus.publish(topics.BRIDGE_STATUS, unknown("the bridge was stopped"), retain=True)
                if to_hq is not None and to_hq.client.connected:
                    await to_hq.client.publish(topics.up_status(config.store.id), to_hq.goodbye())


def run(config_file: Path) -> int:
    """The bridge of the store that `config_file` describes, until SIGINT or SIGTERM.

    2: the file cannot be used; `TRY_AGAIN`: the disk does not let us begin now.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    guard_process()
    _stand_back()
    try:
        config = load(config_file)
        asyncio.run(_until_told(config))
    except BadConfig as error:
        for complaint in error.complaints:
            sys.stderr.write(f"{complaint}\n")
        return 2
    except Unusable as error:
        sys.stderr.write(f"{config_file}: {error}\n")
        return 2
    except sqlite3.Error as error:
        log.critical("%s cannot be opened (%s): is the disk full or failing? Trying again", config.bridge_db, error)
        return TRY_AGAIN
    return 0


def _stand_back() -> None:
    os.nice(NICENESS)
    # Kernels that share the processor out by session ("autogroup": Debian's) heed niceness within a session only, and
    # systemd and `tillgate run` give the bridge one of its own.
    group = Path("/proc/self/autogroup")
    if os.getsid(0) == os.getpid() and group.exists():
        try:
            group.write_text(str(NICENESS))
        except OSError as error:
            log.warning("the processor is not left to edge and broker first: %s: %s", group, error.strerror)


async def _until_told(config: StoreConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(config, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """The bridge process: ``python -m cloud_bridge.daemon --config FILE``."""
    parser = argparse.ArgumentParser(
        prog="python -m cloud_bridge.daemon", description="The bridge process of a Tillgate gateway: the link to HQ."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the store.toml")
    return run(parser.parse_args(arguments).config)


if __name__ == "__main__":
    sys.exit(main())
