"""Two tills share a scale through a real broker: one has it for itself until its connection is gone."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.gateway import gateway, lanes_toml
from edge.bus import topics
from edge.bus.client import Message, Will
from tests.flows.plain_till import PlainTill

SCALE = """
[[devices]]
id = "scale-1"
protocol = "toledo-8217"
lanes = ["1", "2"]
transport = { kind = "serial", path = "/dev/tillgate-has-none-of-this-name" }
"""
IMPATIENT = """
import sys
from edge import daemon
from edge.devices import leases
leases.AWAY_S = 0.2
sys.exit(daemon.main())
"""


async def test_a_lease_ends_with_the_connection_of_its_till() -> None:
    statuses: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def heard(message: Message) -> None:
        message.ack()
        statuses.put_nowait(json.loads(message.payload))

    async def until_holder(lane: str | None) -> None:
        async with asyncio.timeout(20):
            while True:
                lease = (await statuses.get())["lease"]
                if (lease["lane"] if lease else None) == lane:
                    return

    async with gateway(lanes_toml(2) + SCALE, edge=(sys.executable, "-c", IMPATIENT)) as running:
        gone = Will(topics.lane_presence("1"), b'{"online": false}')
        first, second = PlainTill(running.address, "1", will=gone), PlainTill(running.address, "2")
        second.client.on_message(topics.device_status("scale-1"), heard)
        async with second.client:
            async with first.client:
                await first.client.wait_connected()
                await first.client.publish(topics.lane_presence("1"), b'{"online": true}', retain=True)
                granted = await first.request("device.claim", "r-1", device="scale-1", for_ms=600_000)
                await until_holder("1")
                refused = await second.request("device.claim", "r-2", device="scale-1")
                assert refused["problem"]["code"] == "not_ready"
                assert refused["problem"]["retry_after_ms"] > 500_000
                # A till says so itself when it leaves in order; without a word, its last will does.
                await first.client.publish(topics.lane_presence("1"), gone.payload, retain=True)
            await until_holder(None)
            claimed = await second.request("device.claim", "r-3", device="scale-1")
            assert claimed["result"]["lease"] > granted["result"]["lease"]
            stale = await second.request("scale.weigh", "r-4", device="scale-1", lease=granted["result"]["lease"])
            assert stale["problem"]["code"] == "expired"
