"""What a bridge and a receiver show to Prometheus, as processes of their own."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from sqlalchemy import Engine

from bench.gateway import free_port
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import BridgeProcess, Edge, Mosquitto
from tests.flows.test_metrics import until, value


async def test_a_bridge_and_a_receiver_are_scraped(
    tmp_path: Path, hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    bridge_port, hq_port = free_port(), free_port()
    edge = Edge(configure(cloud.port, f"[metrics]\nbridge_port = {bridge_port}\n"))
    bridge = BridgeProcess(edge.config.file)
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", "hq", "receive", "--url", str(hq_file.url),
        "--broker", f"127.0.0.1:{cloud.port}", "--metrics-port", str(hq_port),
    )  # fmt: skip
    try:
        await until(hq_port, "tillgate_hq_connections_total", 1)
        async with edge.running():
            await edge.journal(FactClass.TRANSACTION, 30)
            await bridge.start()
            confirmed = await until(bridge_port, "tillgate_uplink_confirmed", 30, **{"class": "transaction"})
            assert value(confirmed, "tillgate_uplink_backlog_facts", **{"class": "transaction"}) == 0
            assert value(confirmed, "tillgate_uplink_facts_total", **{"class": "transaction"}) >= 30
            assert value(confirmed, "tillgate_uplink_bytes_total", **{"class": "transaction"}) > 100
            assert value(confirmed, "tillgate_downlink_bytes_total") > 0
            await until(bridge_port, "tillgate_link_state", 1, state="online")
            recorded = await until(hq_port, "tillgate_hq_messages_total", 2)
            assert value(recorded, "tillgate_hq_waiting_messages") == 0
    finally:
        await bridge.end(signal.SIGTERM)
        receiver.terminate()
        assert await receiver.wait() == 0
