"""The hour's budget of a metered line, with the real bridge: what waits, what does not, and what a crash remembers."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine

from edge.bus.messages.facts import FactClass
from edge.config import BadConfig
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, BridgeProcess, Edge, a_bridge, a_receiver, until
from tests.cloud_bridge.stand_in import StandIn
from tests.cloud_bridge.stand_in_manners import facts

BUDGET = "[cloud.budget]\nbytes_per_hour = 600_000\n"
AT_ONCE = 600_000 // 12
"""Of an hour's budget, see `cloud_bridge.pace`."""

LARGEST_BATCH = 256 * 1024


def bulk_bytes(broker: StandIn) -> int:
    received = [message for who, message in broker.received if who == STORE and facts(message)]
    return sum(len(message.payload) for message in received if not message.topic.endswith("/critical"))


def left_over(file: Path) -> float | None:
    with contextlib.closing(sqlite3.connect(file)) as db:
        row = db.execute("SELECT left_over FROM budget WHERE kind = 'bytes'").fetchone()
    return float(row[0]) if row else None


async def test_a_spent_budget_holds_back_all_but_critical_facts_and_a_crash_does_not_give_it_back(
    hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        config = configure(broker.port, BUDGET)
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port):
            await edge.journal(FactClass.TRANSACTION, 900, noise_bytes=1_000)  # more than what may leave at once
            bridge = BridgeProcess(config.file)
            await bridge.start()
            await until(lambda: edge.status and edge.status.budget_wait_s > 0)
            await edge.journal(FactClass.CRITICAL, 5)
            await until(lambda: edge.confirmed(FactClass.CRITICAL) == 5)
            await until(lambda: (left_over(config.bridge_db) or 1) < 0)
            for _ in range(3):
                await bridge.end(signal.SIGKILL)
                edge.statuses.clear()
                await bridge.start()
                await edge.journal(FactClass.CRITICAL, 1)
                await until(lambda: edge.status and edge.status.link == "online" and edge.status.budget_wait_s > 0)
            await until(lambda: edge.confirmed(FactClass.CRITICAL) == 8)
            assert await bridge.end(signal.SIGTERM) == 0
            assert edge.confirmed() < 900
        assert bulk_bytes(broker) <= AT_ONCE + LARGEST_BATCH


async def test_messages_are_counted_as_well(hq_file: Engine, configure: Configure) -> None:
    async with StandIn().running() as broker:
        config = configure(broker.port, "[cloud.budget]\nmessages_per_hour = 60\n")  # five at once
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            sent = 0

            def confirmed_or_waiting() -> bool:
                waits = edge.status is not None and edge.status.budget_wait_s > 0
                return waits or edge.confirmed(FactClass.TELEMETRY) == sent

            while not (edge.status and edge.status.budget_wait_s):
                await edge.journal(FactClass.TELEMETRY, 1)
                sent += 1
                await until(confirmed_or_waiting)
            assert sent <= 7
            await edge.journal(FactClass.CRITICAL, 3)
            await until(lambda: edge.confirmed(FactClass.CRITICAL) == 3)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("bytes_per_hour = 1000", "bytes_per_hour: Input should be greater than or equal to 262144"),
        ("messages_per_hour = 0", "messages_per_hour: Input should be greater than or equal to 60"),
        ("bytes_per_s = 10", "bytes_per_s: Input should be greater than or equal to 1024"),
        ("byte_per_hour = 1", "did you mean 'bytes_per_hour'?"),
    ],
)
async def test_a_budget_that_cannot_be_is_complained_of(configure: Configure, line: str, what: str) -> None:
    with pytest.raises(BadConfig) as caught:
        configure(1, f"[cloud.budget]\n{line}\n")
    assert what in str(caught.value)
