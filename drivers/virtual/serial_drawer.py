"""A virtual cash drawer behind a serial trigger box: opened by the bytes the box is set to, and by hand.

With `status` it says 00 every `every_ms` while it is open and nothing while it is closed (ACODE AT10U3 PLUS product
page); without, it says nothing (APG 484A with its status on a modem line).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from drivers.virtual.twin import Table, Twin, get_hex, one_of
from drivers.virtual.wire import Wire


class VirtualSerialDrawer(Twin):
    """Actions: drawer (`to`: open, closed)."""

    kind = "drawer"

    def __init__(self, name: str, wire: Wire, *, opens: str = "07", status: bool = True, every_ms: int = 100) -> None:
        super().__init__(name, wire)
        self._opens = get_hex({"opens": opens}, "opens")
        self._status = status
        self._every_s = every_ms / 1000
        self._heard = b""
        self._saying: asyncio.TimerHandle | None = None
        self.is_open = False
        self.kicks = 0
        self.locked = False
        self.actions["drawer"] = self._by_hand

    async def close(self) -> None:
        """Take the drawer away."""
        self._move(False)
        await super().close()

    def received(self, data: bytes) -> None:
        """Obey the opening sequence; other bytes are ignored."""
        self._heard += data
        while self._opens in self._heard:
            self._heard = self._heard.partition(self._opens)[2]
            self.kicks += 1
            if not self.locked:
                self._move(True)
        self._heard = self._heard[-len(self._opens) :]

    def state(self) -> Table:
        """Adds whether it is open."""
        return {**super().state(), "drawer_open": self.is_open, "kicks": self.kicks}

    def _move(self, open_: bool) -> None:
        self.is_open = open_
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        if open_ and self._status:
            self._say()

    def _say(self) -> None:
        self.wire.send(b"\x00")
        self._saying = asyncio.get_running_loop().call_later(self._every_s, self._say)

    async def _by_hand(self, arguments: Mapping[str, Any]) -> None:
        self._move(one_of(arguments, "to", ("open", "closed")) == "open")
