"""What the till shows to the customer. Nobody waits for it: a display that is away keeps no cashier from selling."""

from __future__ import annotations

import asyncio
from typing import Any

from edge.bus.messages.facts import SaleLine
from edge.bus.messages.replies import ProblemError
from edge.till import Till

SHOW_WITHIN_MS = 1_000
THANKS_MS = 3_000


class Pole:
    """The customer display of one lane; what is shown last takes the place of what has not been shown yet."""

    def __init__(self, till: Till) -> None:
        self._till = till
        self._showing: asyncio.Task[None] | None = None

    def item(self, line: SaleLine) -> None:
        """Show what has just gone into the basket."""
        quantity = {"quantity": line.quantity, "unit": line.weight.unit if line.weight is not None else None}
        price = {"unit_price_minor": line.unit_price_minor, "amount_minor": line.amount_minor}
        self._show({"template": "item", "text": line.text, **quantity, **price})

    def total(self, total_minor: int, change_minor: int) -> None:
        """Show what is to be paid, and the change."""
        change = {"change_minor": change_minor} if change_minor else {}
        self._show({"template": "total", "total_minor": total_minor, **change})

    def thanks(self) -> None:
        """Show that the sale is over; then the idle text comes back."""
        self._show({"lines": ["Thank you", "Come again"], "for_ms": THANKS_MS})

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._showing is not None:
            self._showing.cancel()
            await asyncio.wait((self._showing,))

    def _show(self, parameters: dict[str, Any]) -> None:
        if self._showing is not None:
            self._showing.cancel()
        self._showing = asyncio.create_task(self._ask(parameters), name="customer display")

    async def _ask(self, parameters: dict[str, Any]) -> None:
        try:
            await self._till.request("display.show", parameters, deadline_ms=SHOW_WITHIN_MS)
        except ProblemError:
            return  # the display's status tells it on the bus, and the cashier reads the amount out
