"""The gateway's own answer on the network, kept true, and the ear for who else answers.

Strategy: what is advertised changes with the store's authority and with this box's addresses; then it is said anew. No
mDNS is no fault of the store: tills go where they went yesterday.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from edge.access.authority import Authority
from edge.access.authority_keys import AuthorityFault
from edge.access.strangers import Strangers
from edge.bus.discovery import Found, advertise, own_addresses
from edge.config import StoreConfig

LOOK_EVERY_S = 30.0


class Advertising:
    """Use `run` with `keep_running`; DiscoveryFailed is expected."""

    def __init__(self, config: StoreConfig, authority: Authority, strangers: Strangers | None) -> None:
        self._config = config
        self._authority = authority
        self._on_answer: Callable[[Found], None] | None = strangers.heard if strangers is not None else None

    async def run(self) -> NoReturn:
        """Advertise, and say it anew when it has changed. Raises DiscoveryFailed."""
        bus = self._config.bus
        while True:
            said = self._now()
            ca, _ = said
            enrol = self._config.enrolment.port or None
            async with advertise(
                self._config.store.id, bus.port, tls=True, host=bus.host, interfaces=bus.interfaces, ca=ca,
                enrol=enrol, on_answer=self._on_answer,
            ):  # fmt: skip
                while True:
                    await asyncio.sleep(LOOK_EVERY_S)
                    if self._now() != said:
                        break

    def _now(self) -> tuple[str | None, tuple[str, ...]]:
        """Authority and addresses, as they are at this moment."""
        try:
            ca = self._authority.advertised
        except AuthorityFault:
            ca = None
        bus = self._config.bus
        return ca, tuple(own_addresses(bus.host, bus.interfaces))
