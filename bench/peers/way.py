"""What a way from the store to HQ must let a comparison do with it; one module beside this for each way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

from bench.peers.tills import Till
from bench.processes import Processes
from edge.bus.address import Address


class Way(ABC):
    """One way, with a store of its own in `folder`; `wan_port` leads to HQ's broker at `cloud_port` and can be cut.

    `url` is HQ's database, for a way with `has_receiver`. In this order: `start`, tills sell, `kill`, `restart`, the
    WAN comes back, `settle`, `at_hq`. What is not stopped with `processes` goes onto `stack`.
    """

    name: ClassVar[str]
    till: ClassVar[type[Till]] = Till
    has_receiver: ClassVar[bool] = False
    """Whether it has an HQ of its own behind the broker, as only we do."""

    def __init__(
        self, processes: Processes, stack: AsyncExitStack, folder: Path, wan_port: int, cloud_port: int, url: str
    ) -> None:
        self.processes = processes
        self.stack = stack
        self.folder = folder
        self.wan_port = wan_port
        self.cloud_port = cloud_port
        self.url = url
        folder.mkdir(parents=True)

    @abstractmethod
    async def start(self) -> Address:
        """Run the store and wait until it has reached HQ; returns where its tills connect."""

    @abstractmethod
    async def kill(self) -> None:
        """SIGKILL the store's programs, all in the same moment."""

    @abstractmethod
    async def restart(self) -> Address:
        """Run them again on what they kept; returns where tills connect now."""

    @abstractmethod
    async def settle(self, last: str) -> None:
        """Wait until sale `last`, sent after everything else, is at HQ: what is not there by then is lost."""

    @abstractmethod
    async def at_hq(self) -> Sequence[str]:
        """The ids of sales at HQ, as often as each is there."""
