"""Where the gateway is, for a till that was not told: by mDNS, else where it last was.

Strategy: the answer of the network counts, because boxes are replaced and addresses change. What was found is noted in
the ledger, so that a till that starts while multicast is down goes where it went yesterday. An mDNS answer proves
nothing by itself: a till that has TLS files goes only where TLS is spoken, and believes only the authority it knows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from edge.bus.address import Address, TlsFiles
from edge.card_guard import guarded
from edge.till.ledger import Ledger

log = guarded(__name__)

LOOK_S = 3.0
PAUSE_S = 5.0
NOTE = "gateway"


async def find_gateway(
    store: str, ledger: Ledger, tls: TlsFiles | None = None, interfaces: Sequence[str] = ()
) -> Address:
    """The address of `store`'s gateway; looks until it has one. `interfaces` to ask on; empty: all."""
    from edge.bus.discovery import DiscoveryFailed, browse  # zeroconf is loaded only by tills that search

    told = ""
    while True:
        why = f"no gateway of store {store} answers by mDNS"
        try:
            for found in await browse(store, LOOK_S, interfaces=interfaces):
                if tls is not None and not found.tls:
                    why = f"{found.host} says it is store {store} but speaks no TLS"
                    continue
                address = Address(host=found.host, port=found.port, tls=tls or (TlsFiles() if found.tls else None))
                await ledger.note(NOTE, str(address))
                return address
        except DiscoveryFailed as error:
            why = str(error)
        remembered = await ledger.noted(NOTE)
        if remembered is not None:
            log.warning("%s; trying where it was last: %s", why, remembered)
            return Address.parse(remembered, tls)
        if told != why:
            log.warning("%s; still looking. Its address can also be given by hand", why)
            told = why
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
