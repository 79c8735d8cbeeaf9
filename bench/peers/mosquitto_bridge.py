"""A mosquitto bridge as a way to HQ: the store's broker forwards everything to HQ's, where a subscriber counts.

Set up fairly: bridged with QoS 1 (its default of 0 would queue nothing), a lasting session, no limit on its queue,
persistence on. Its window is mosquitto's default of 20 messages in flight. Sales count as accepted with the broker's
PUBACK. Two settings of its persistence:

    defaults      saved every 1,800 s and on an orderly end
    every change  autosave_on_changes with an interval of 1: the whole file is written anew on each change, after the
                  PUBACKs of what its loop took in one round, so that about one message of each till is at risk

Source: mosquitto.conf(5) of mosquitto 2.0, "Bridges", "persistence", "autosave_interval", "autosave_on_changes".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from bench.gateway import free_port
from bench.headquarters import BROKER_CONF, answers
from bench.peers.counter import Counter
from bench.peers.way import Way
from bench.processes import Processes, mosquitto
from edge.bus.address import Address

LINK_WITHIN_S = 60.0
READY_WITHIN_S = 60.0


class Broker:
    """A mosquitto in the store that can be killed and started again on what it kept."""

    def __init__(self, processes: Processes, conf: str) -> None:
        self.port = free_port()
        self.address = Address(host="127.0.0.1", port=self.port)
        self._processes = processes
        self._file = processes.log.with_name(f"store-{self.port}.conf")
        self._file.write_text(f"listener {self.port} 127.0.0.1\n{conf}")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it takes connections when this returns."""
        self._process = await self._processes.start(mosquitto(), "-c", self._file)
        async with asyncio.timeout(READY_WITHIN_S):
            while not await answers(self.port):
                if self._process.returncode is not None:
                    raise RuntimeError(f"mosquitto ended at once:\n{self._processes.last_words()}")
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()


class MosquittoBridge(Way):
    """The store's mosquitto with its bridge."""

    name: ClassVar[str] = "mosquitto_bridge_defaults"
    saving: ClassVar[str] = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._counter = Counter(self.cloud_port)
        self._broker = Broker(
            self.processes,
            BROKER_CONF.replace("persistence false", "persistence true")
            + f"persistence_location {self.folder}/\n{self.saving}"
            f"connection hq\naddress 127.0.0.1:{self.wan_port}\ntopic # out 1\ncleansession false\n"
            "remote_clientid store\nnotifications false\ntry_private true\nrestart_timeout 1\n",
        )

    async def start(self) -> Address:
        """Run it, and wait until a first message has gone all the way."""
        await self._counter.connect(self.stack)
        address = await self.restart()
        await self._counter.heard_of(address, LINK_WITHIN_S)
        return address

    async def kill(self) -> None:
        """SIGKILL the store's broker."""
        await self._broker.kill()

    async def restart(self) -> Address:
        """Run it on its file."""
        await self._broker.start()
        return self._broker.address

    async def settle(self, last: str) -> None:
        """It sends in order; what it thinks it has sent before may come again later, so wait until nothing comes."""
        await self._counter.has(last)
        await self._counter.quiet()

    async def at_hq(self) -> Sequence[str]:
        """As counted."""
        return self._counter.ids


class SavingMosquittoBridge(MosquittoBridge):
    """The same with a save on every change."""

    name: ClassVar[str] = "mosquitto_bridge_every_change"
    saving: ClassVar[str] = "autosave_on_changes true\nautosave_interval 1\n"
