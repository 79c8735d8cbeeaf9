"""A watcher on the store's bus: keeps what gateway, bridge, devices and tills last said of themselves.

It only listens; everything shown or decided in the demo comes from here, from the virtual devices, or from the files
of each end, never from inside the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from edge.bus import topics
from edge.bus.client import Address, Backoff, Client, Message


@dataclass(slots=True)
class Watch:
    """Use it as ``async with``. `on_change` is called after each message with the topic."""

    broker_socket: Path
    on_change: Callable[[str], None] = lambda _: None
    gateway: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    tills: dict[str, dict[str, Any]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _client: Client | None = None

    async def __aenter__(self) -> Self:
        client = Client(
            Address(socket=self.broker_socket),
            client_id="demo-watch",
            clean_start=True,
            backoff=Backoff(min_s=0.1, max_s=1.0),
        )
        client.on_message(topics.GATEWAY_STATUS, self._gateway_said)
        client.on_message(topics.DEVICES_STATUS_ANY, self._device_said)
        client.on_message(topics.LANE_PRESENCE_ANY, self._till_said)
        self._client = await client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.__aexit__(kind, error, trace)

    @property
    def link(self) -> str:
        """``online``, or what is broken between store and HQ."""
        return str(self.gateway.get("link", "unknown"))

    @property
    def serving(self) -> bool:
        """Whether the gateway says that it serves the tills."""
        return self.gateway.get("state") == "serving"

    @property
    def backlog(self) -> int:
        """Facts that HQ has not confirmed, over all classes."""
        return sum(entry["facts"] for entry in self.gateway.get("backlog", {}).values())

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until `holds`, looked at after every message; False when the time is over."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _gateway_said(self, message: Message) -> None:
        self.gateway = _table(message)
        self._tell(message)

    def _device_said(self, message: Message) -> None:
        table = _table(message)
        self.devices[str(table.get("device"))] = table
        self._tell(message)

    def _till_said(self, message: Message) -> None:
        self.tills[topics.lane_of(message.topic)] = _table(message)
        self._tell(message)

    def _tell(self, message: Message) -> None:
        message.ack()
        self._news.set()
        self.on_change(message.topic)


def _table(message: Message) -> dict[str, Any]:
    table = orjson.loads(message.payload)
    assert isinstance(table, dict)
    return table
