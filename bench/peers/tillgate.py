"""Tillgate as a way to HQ: a whole store, and HQ's facts counted by SQL in its PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import psycopg

from bench.backlog import SALE
from bench.gateway import Gateway, gateway, lanes_toml
from bench.peers.tills import Till, TillgateTill
from bench.peers.way import Way
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.statuses import GatewayStatus

LOOK_S = 0.05
LINK_WITHIN_S = 30.0
SETTLE_WITHIN_S = 120.0
LANES = 40
LIMITS = "[limits]\nmessages_per_s = 100000\nburst = 100000\n"


class Tillgate(Way):
    """Broker, edge and bridge of one store."""

    name: ClassVar[str] = "tillgate"
    till: ClassVar[type[Till]] = TillgateTill
    has_receiver: ClassVar[bool] = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {self.wan_port}\nprofile = "mosquitto"\n'
        self._tables = cloud + LIMITS + lanes_toml(LANES)
        self._running = AsyncExitStack()
        self._gateway: Gateway | None = None
        self.stack.push_async_callback(self._running.aclose)

    async def start(self) -> Address:
        """Run the store; wait until the link is up."""
        address = await self.restart()
        assert self._gateway is not None
        await online(self._gateway)
        return address

    async def kill(self) -> None:
        """SIGKILL all three."""
        assert self._gateway is not None
        processes = self._gateway.processes.values()
        for process in processes:
            process.kill()
        for process in processes:
            await process.wait()
        await self._running.aclose()

    async def restart(self) -> Address:
        """Run it on what it has."""
        self._gateway = await self._running.enter_async_context(gateway(self._tables, folder=self.folder, bridge=True))
        return self._gateway.address

    async def settle(self, last: str) -> None:
        """Wait until that sale is in HQ's database."""
        async with asyncio.timeout(SETTLE_WITHIN_S):
            while not await self._ids("SELECT id FROM facts WHERE id = %s", last):
                await asyncio.sleep(LOOK_S)

    async def at_hq(self) -> Sequence[str]:
        """By SQL."""
        return await self._ids("SELECT id FROM facts WHERE type = %s", SALE)

    async def _ids(self, sql: str, argument: str) -> list[str]:
        async with await psycopg.AsyncConnection.connect(self.url.replace("+psycopg", "")) as db:
            found = await db.execute(sql.encode(), (argument,))
            return [row[0] for row in await found.fetchall()]


async def online(at: Gateway) -> None:
    """Wait until the gateway says that its link to HQ is up."""
    up = asyncio.Event()

    def heard(message: Message) -> None:
        message.ack()
        if GatewayStatus.model_validate_json(message.payload).link == "online":
            up.set()

    watch = Client(Address(socket=at.config.broker_socket), client_id="bench-online", clean_start=True)
    watch.on_message(topics.GATEWAY_STATUS, heard)
    async with watch, asyncio.timeout(LINK_WITHIN_S):
        await up.wait()
