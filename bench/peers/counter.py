"""HQ for peers that have none of their own: a subscriber that notes the id of every sale that arrives."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

import orjson

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message

PROBE_EVERY_S = 0.2
ARRIVES_WITHIN_S = 120.0
QUIET_S = 5.0


class Counter:
    """Subscribed on the broker at `port`. `ids` in order of arrival, repeats included."""

    def __init__(self, port: int) -> None:
        self.ids: list[str] = []
        self.client = Client(
            Address(host="127.0.0.1", port=port), client_id=f"hq-{secrets.token_hex(4)}", clean_start=True
        )
        self._arrived: set[str] = set()
        self._came = asyncio.Event()
        self._prepare(self.client)

    def _prepare(self, client: Client) -> None:
        """Before connecting."""
        client.on_message(topics.LANE_FACTS_ANY, self._heard)

    async def connect(self, stack: AsyncExitStack) -> None:
        """Connect and subscribe, until `stack` is closed."""
        await stack.enter_async_context(self.client)
        await self.client.wait_connected()

    def _heard(self, message: Message) -> None:
        self.note(orjson.loads(message.payload)["id"])
        message.ack()

    def note(self, id_: str) -> None:
        """A sale, or a probe, has arrived."""
        self.ids.append(id_)
        self._arrived.add(id_)
        self._came.set()

    async def has(self, id_: str, within_s: float = ARRIVES_WITHIN_S) -> None:
        """Wait for the message with this id."""
        async with asyncio.timeout(within_s):
            while id_ not in self._arrived:
                self._came.clear()
                await self._came.wait()

    async def quiet(self, for_s: float = QUIET_S) -> None:
        """Wait until nothing has come for so long."""
        while True:
            self._came.clear()
            try:
                async with asyncio.timeout(for_s):
                    await self._came.wait()
            except TimeoutError:
                return

    async def heard_of(self, store: Address, within_s: float) -> None:
        """Publish at `store` until something of it arrives here: the way is open then."""
        async with Client(store, client_id="bench-probe", clean_start=True) as client, asyncio.timeout(within_s):
            while True:
                probe = secrets.token_hex(8)
                await client.publish(topics.lane_facts("probe"), orjson.dumps({"id": probe, "data": {}}))
                try:
                    await self.has(probe, PROBE_EVERY_S)
                except TimeoutError:
                    continue
                return
