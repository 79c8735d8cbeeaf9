"""What one receiver may publish on its connection: cloud brokers meter HQ's connections as they meter a store's.

Strategy: whoever has something for a store waits for a turn, in the order of asking; a confirmation of critical facts
does not wait, but counts. A later confirmation of a store replaces the one that still waits, so that with many stores
on one metered connection each is told less often, and nothing piles up.
"""

from __future__ import annotations

import asyncio

from cloud_bridge.pace import Budget


class Turns:
    """Turns at `budget`; without limits in it nobody waits."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._one_at_a_time = asyncio.Lock()

    async def wait(self, size_bytes: int) -> None:
        """Return when `size_bytes` may be published."""
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            await asyncio.sleep(self._budget.wait_s(loop.time()))
            self._budget.spend(size_bytes, loop.time())

    def take(self, size_bytes: int) -> None:
        """Publish at once, and let the others wait for it."""
        self._budget.spend(size_bytes, asyncio.get_running_loop().time())
