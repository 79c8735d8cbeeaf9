"""A till that knows only the bus: it sends JSON and collects what comes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from edge.bus import envelope, topics
from edge.bus.client import Client, Message


class PlainTill:
    """A till that knows only the bus: it sends JSON and collects what comes back. `heard` holds (topic, object)."""

    def __init__(self, address: Any, lane: str, **options: Any) -> None:
        self.lane = lane
        self.client = Client(address, client_id=f"test-till-{lane}", username=lane, clean_start=True, **options)
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        for topic in (topics.lane_replies(lane), topics.lane_scans(lane), f"{topics.ROOT}/lanes/{lane}/replies/own"):
            self.client.on_message(topic, self._take)

    def _take(self, message: Message) -> None:
        message.ack()
        self.heard.put_nowait((message.topic, json.loads(message.payload)))

    async def answer(self, to: str | None) -> Any:
        """The reply to `to`; others that come before it are kept in order."""
        async with asyncio.timeout(20):
            while True:
                topic, found = await self.heard.get()
                if "to" in found and found["to"] == to:
                    return found
                assert "scan_id" not in found, f"an unexpected scan on {topic}"

    async def fact(self, event: Any) -> Any:
        """Send a fact and return its answer."""
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        await self.client.publish(topics.lane_facts(self.lane), payload)
        return await self.answer(event["id"] if isinstance(event, dict) and isinstance(event.get("id"), str) else None)

    async def request(self, operation: str, id_: str, **parameters: Any) -> Any:
        """Ask and return the answer."""
        payload = json.dumps({"id": id_, "deadline_ms": 5000, "parameters": parameters}).encode()
        await self.client.publish(topics.lane_request(self.lane, operation), payload)
        return await self.answer(id_)

    def sale(self, sequence: int, **changes: Any) -> dict[str, Any]:
        """A sale of one pen as a CloudEvent."""
        data = {
            "business_day_date": "2026-05-04",
            "operator_id": "c1",
            "receipt_number": f"{self.lane}-{sequence}",
            "currency": "EUR",
            "lines": [
                {
                    "line": 1,
                    "item": "4006381333931",
                    "text": "Textmarker gelb",
                    "quantity": "1",
                    "unit_price_minor": 129,
                    "amount_minor": 129,
                }
            ],
            "total_minor": 129,
        }
        source = envelope.lane_source("BENCH", self.lane)
        return {**envelope.build("tillgate.sale.completed.v1", source, data, sequence=sequence), **changes}
