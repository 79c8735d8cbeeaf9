"""Where the gateway is, for a till that was not told: by mDNS, else where it last was.

Strategy: the answer of the network counts, because boxes are replaced and addresses change. What was found is noted in
the ledger, so that a till that starts while multicast is down goes where it went yesterday. An mDNS answer proves
nothing by itself: a till that has TLS files goes only where TLS is spoken by somebody who can prove that the authority
it knows has certified him. Each that answers is tried, by a TLS handshake and not a byte more; who fails is a
`Stranger`, told to the gateway when it is found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge.bus.address import Address, TlsFiles
from edge.card_guard import guarded
from edge.till.https import NotBelieved, Unreachable, asking
from edge.till.ledger import Ledger

log = guarded(__name__)

LOOK_S = 3.0
PAUSE_S = 5.0
PROVE_WITHIN_S = 5.0
NOTE = "gateway"


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who answers for this store and cannot prove that he is it. `ca` is what he says of his authority."""

    host: str
    port: int
    ca: str | None
    why: str


def nobody_listens(stranger: Stranger) -> None:
    """For who does not report strangers."""


async def find_gateway(
    store: str,
    ledger: Ledger,
    tls: TlsFiles | None = None,
    interfaces: Sequence[str] = (),
    *,
    first_time: Address | None = None,
    on_stranger: Callable[[Stranger], None] = nobody_listens,
) -> Address:
    """The address of `store`'s gateway; looks until it has one. `interfaces` to ask on; empty: all.

    `first_time` is where to go when nobody answers and nothing is noted. A gateway whose certificate is good but for
    its dates is taken with `any_time`: then this till's clock or the gateway's is wrong, which must not stop a sale.
    """
    from edge.bus.discovery import DiscoveryFailed, Found, browse  # zeroconf is loaded only by tills that search

    told = why = ""
    tried: set[Found] = set()

    async def believed(found: Sequence[Found]) -> Address | None:
        """The first of these that can prove himself."""
        nonlocal why
        for one in found:
            if one in tried:
                continue
            tried.add(one)
            if tls is not None and not one.tls:
                why = f"{one.host} says it is store {store} but speaks no TLS"
                on_stranger(Stranger(one.host, one.port, one.ca, "speaks no TLS"))
                continue
            for host in one.addresses:
                address = Address(host=host, port=one.port, tls=tls or (TlsFiles() if one.tls else None))
                try:
                    return await proven(address)
                except Unreachable as error:
                    why = str(error)
                except NotBelieved as error:
                    why = f"{host} says it is store {store} and cannot prove it: {error}"
                    on_stranger(Stranger(host, one.port, one.ca, str(error)))
        return None

    while True:
        why = f"no gateway of store {store} answers by mDNS"
        tried.clear()
        try:
            address = await believed(await browse(store, LOOK_S, interfaces=interfaces))
            if address is None and tried:  # whoever was first is not ours: perhaps he was only the quickest
                address = await believed(await browse(store, LOOK_S, interfaces=interfaces, everybody=True))
            if address is not None:
                await ledger.note(NOTE, str(address))
                return address
        except DiscoveryFailed as error:
            why = str(error)
        remembered = await ledger.noted(NOTE) or (str(first_time) if first_time is not None else None)
        if remembered is not None:
            log.warning("%s; trying where it was last: %s", why, remembered)
            return Address.parse(remembered, tls)
        if told != why:
            log.warning("%s; still looking. Its address can also be given by hand", why)
            told = why
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))


async def proven(address: Address) -> Address:
    """`address`, once who is there has proved that he is the gateway; with ``tls.any_time`` set where only the dates
    of his certificate are against it. Raises NotBelieved, Unreachable. Without TLS there is nothing to prove.
    """
    tls = address.tls
    if tls is None or address.host is None:
        return address
    try:
        await _shake_hands(address, tls)
    except NotBelieved as error:
        if not error.dated:
            raise
        tls = replace(tls, any_time=True)
        await _shake_hands(address, tls)
        log.warning(
            "the certificate of the gateway at %s is not valid by this till's clock; going on, for all else in it is"
            " right. Set this till's clock, and look at the gateway's",
            address,
        )
        return replace(address, tls=tls)
    return address


async def _shake_hands(address: Address, tls: TlsFiles) -> None:
    assert address.host is not None
    try:
        context = tls.context()
    except OSError as error:
        raise NotBelieved(f"the TLS files cannot be used: {error}") from None
    async with asking(address.host, address.port, context, server_name=tls.server_name, within_s=PROVE_WITHIN_S):
        return
