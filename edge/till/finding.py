"""Where the gateway is, for a till that was not told: by mDNS, else where it last was.

Strategy: the answer of the network counts, because boxes are replaced and addresses change. What was found is noted in
the ledger, so that a till that starts while multicast is down goes where it went yesterday. An mDNS answer proves
nothing by itself: until lanes have certificates, use discovery on a store's own network only.
"""

from __future__ import annotations

import asyncio
import logging
import random

from edge.bus.address import Address
from edge.till.ledger import Ledger

log = logging.getLogger(__name__)

LOOK_S = 3.0
PAUSE_S = 5.0
NOTE = "gateway"


async def find_gateway(store: str, ledger: Ledger) -> Address:
    """The address of `store`'s gateway; looks until it has one."""
    from edge.bus.discovery import browse  # zeroconf is loaded only by tills that search

    told = False
    while True:
        for found in await browse(store, LOOK_S):
            address = Address.parse(f"{found.host}:{found.port}")
            await ledger.note(NOTE, str(address))
            return address
        remembered = await ledger.noted(NOTE)
        if remembered is not None:
            return Address.parse(remembered)
        if not told:
            log.warning("no gateway of store %s answers by mDNS; still looking. Or give its address by hand", store)
            told = True
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
