"""A critical fact on a thin line: it passes the backlog at the store, on the line, and at HQ."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select, text

from cloud_bridge.hq import schema
from demo.wan import Wan
from edge.bus import frame, topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, a_receiver, until

BACKLOG = 5_000
MOST_AHEAD = 8
"""Bulk batches that may still arrive before it: what stands on the line, one that is being packed, and one to spare."""


async def test_a_critical_fact_waits_for_a_moments_worth_of_a_thin_line_and_no_more(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    arrived: list[str] = []

    def seen(message: Message) -> None:
        message.ack()
        if topics.last_level(message.topic) in set(FactClass):
            arrived.append(frame.unpack(message.payload)[0]["class"])

    watcher = Client(Address(host="127.0.0.1", port=cloud.port), client_id="watcher")
    watcher.on_message(topics.HQ_UP_ANY, seen)
    async with Wan(cloud.port, rtt_ms=20, up_kbit=1_000) as wan, watcher:
        await watcher.wait_connected()
        config = configure(wan.port)
        async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port):
            await edge.journal(FactClass.TELEMETRY, BACKLOG, noise_bytes=200)
            async with a_bridge(config):
                await until(lambda: len(arrived) >= 20)
                await edge.journal(FactClass.CRITICAL, 1)
                before = len(arrived)
                await until(lambda: "critical" in arrived)
                place = arrived.index("critical")
                await until(lambda: edge.confirmed(FactClass.CRITICAL) == 1)
                behind = BACKLOG - edge.confirmed(FactClass.TELEMETRY)
    assert place - before <= MOST_AHEAD
    assert behind > 0, "the backlog was gone before the critical fact came: nothing was overtaken"


@pytest.mark.parametrize("hq_url", ["postgresql"], indirect=True)
async def test_a_critical_fact_waits_for_no_transaction_of_other_facts(
    hq: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    """Somebody holds the row that every transaction with telemetry needs; those with critical facts do without it."""
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port), a_bridge(config):
        await edge.journal(FactClass.TELEMETRY, 1)
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 1)
        with hq.begin() as db:
            db.execute(select(schema.heads).where(schema.heads.c["class"] == "telemetry").with_for_update()).all()
            await edge.journal(FactClass.TELEMETRY, 10)
            await until(lambda: db.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())
            await edge.journal(FactClass.CRITICAL, 1)
            await until(lambda: edge.confirmed(FactClass.CRITICAL) == 1)
            assert edge.confirmed(FactClass.TELEMETRY) == 1
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 11)
