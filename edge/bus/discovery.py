"""How a till finds its gateway: mDNS service discovery on the store's network (RFC 6762, RFC 6763).

Strategy: the gateway advertises ``_secure-mqtt._tcp``, or ``_mqtt._tcp`` while its listener speaks plain TCP (names
registered with IANA), with TXT keys ``store``, ``api=1`` and, where there is a store authority, ``ca`` (its
fingerprint). A till looks for its store and takes what answers. An answer proves nothing: a till that has enrolled
trusts only the authority it knows, whatever `ca` says.

zeroconf is imported inside the functions: who neither advertises nor looks does not pay for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.bus.errors import BusError

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger(__name__)

SECURE = "_secure-mqtt._tcp.local."
PLAIN = "_mqtt._tcp.local."
API = "1"
MAX_ANSWERS = 64
"""So many may wait to be read; a flood of them is not worth more memory."""
READ_WITHIN_MS = 2_000
"""How long one answer's details may take; they usually came with the answer."""


class DiscoveryFailed(BusError):
    """This machine cannot speak mDNS now. Selling does not depend on it: give tills the gateway's address by hand."""


@dataclass(frozen=True, slots=True)
class Found:
    """A gateway that answered. `host` is the first of its `addresses`; `ca` the fingerprint of the store authority;
    `enrol` the port of its enrolment listener.
    """

    host: str
    port: int
    store: str
    tls: bool
    ca: str | None
    addresses: tuple[str, ...]
    enrol: int | None = None


@asynccontextmanager
async def advertise(
    store: str,
    port: int,
    *,
    tls: bool,
    host: str = "0.0.0.0",
    interfaces: Sequence[str] = (),
    ca: str | None = None,
    enrol: int | None = None,
    on_answer: Callable[[Found], None] | None = None,
) -> AsyncIterator[None]:
    """Answer for `store`'s broker on `port` while the block runs, and say good-bye after it.

    `host` is what the broker listens on: only addresses where it really answers are told. `interfaces` are addresses
    of this machine to speak on; empty: those that `host` covers. `on_answer` hears of everybody else who answers for
    `store` meanwhile, and of ourselves: whoever wants to know compares. Raises `DiscoveryFailed`.
    """
    from zeroconf.asyncio import AsyncServiceInfo

    addresses = own_addresses(host, interfaces)
    interfaces = tuple(interfaces) or (() if _is_any(host) else (host,))
    kind = SECURE if tls else PLAIN
    properties = {"store": store, "api": API} | ({"ca": ca} if ca else {}) | ({"enrol": str(enrol)} if enrol else {})
    async with _zeroconf(interfaces) as zeroconf:
        service = AsyncServiceInfo(
            kind,
            f"Tillgate {store}.{kind}",
            port=port,
            properties=properties,
            server=f"tillgate-{re.sub('[^A-Za-z0-9]', '-', store)}.local.",
            parsed_addresses=addresses,
        )
        try:
            await (await zeroconf.async_register_service(service, allow_name_change=True))
        except OSError as error:
            raise DiscoveryFailed(f"cannot advertise by mDNS: {error}; is a network connected?") from error
        log.info("tills find the broker by mDNS as %s at %s, port %d", service.name, ", ".join(addresses), port)
        try:
            async with _watching(zeroconf, store, on_answer) if on_answer else contextlib.nullcontext():
                yield
        finally:
            with contextlib.suppress(OSError):
                await (await zeroconf.async_unregister_service(service))


@asynccontextmanager
async def _watching(zeroconf: AsyncZeroconf, store: str, on_answer: Callable[[Found], None]) -> AsyncIterator[None]:
    """Hear of each answer for `store`, when it comes and when it changes."""
    from zeroconf import ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_ANSWERS)

    def changed(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed and not seen.full():
            seen.put_nowait((service_type, name))

    async def read() -> None:
        while True:
            kind, name = await seen.get()
            service = AsyncServiceInfo(kind, name)
            if await service.async_request(zeroconf.zeroconf, READ_WITHIN_MS):
                answer = _read(service, tls=kind == SECURE)
                if answer is not None and answer.store == store:
                    on_answer(answer)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, [SECURE, PLAIN], handlers=[changed])
    reading = asyncio.create_task(read(), name="mDNS answers")
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await browser.async_cancel()


async def browse(
    store: str | None, timeout_s: float, *, interfaces: Sequence[str] = (), everybody: bool = False
) -> list[Found]:
    """The gateways that answer within `timeout_s`; with a `store`, the first of that store, as soon as it answers,
    or `everybody` who answers for it.

    A gateway with TLS comes before one without. Raises `DiscoveryFailed`.
    """
    from zeroconf import ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    found: dict[str, Found] = {}

    def changed(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed:
            seen.put_nowait((service_type, name))

    async with _zeroconf(interfaces) as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, [SECURE, PLAIN], handlers=[changed])
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    kind, name = await seen.get()
                    service = AsyncServiceInfo(kind, name)
                    if not await service.async_request(zeroconf.zeroconf, READ_WITHIN_MS):
                        continue
                    answer = _read(service, tls=kind == SECURE)
                    if answer is not None and (store is None or answer.store == store):
                        found[name] = answer
                        if store is not None and not everybody and seen.empty():
                            break
        except TimeoutError:
            pass
        finally:
            await browser.async_cancel()
    return sorted(found.values(), key=lambda one: (not one.tls, one.store, one.host))


def _read(service: AsyncServiceInfo, *, tls: bool) -> Found | None:
    """A gateway from an answer; None for the answer of something else that speaks MQTT."""
    text = service.decoded_properties
    addresses = tuple(service.parsed_addresses())
    store = text.get("store")
    if not store or text.get("api") != API or not addresses or service.port is None:
        return None
    enrol = text.get("enrol") or ""
    enrolling = int(enrol) if re.fullmatch("[0-9]{1,5}", enrol) and 0 < int(enrol) < 65_536 else None
    return Found(addresses[0], service.port, store, tls, text.get("ca"), addresses, enrolling)


@asynccontextmanager
async def _zeroconf(interfaces: Sequence[str]) -> AsyncIterator[AsyncZeroconf]:
    from zeroconf import InterfaceChoice, IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    try:
        zeroconf = AsyncZeroconf(
            interfaces=list(interfaces) or InterfaceChoice.All,
            ip_version=IPVersion.All if any(":" in one for one in interfaces) else IPVersion.V4Only,
        )
    except (OSError, RuntimeError, ValueError) as error:
        where = ", ".join(interfaces) or "any interface"
        raise DiscoveryFailed(f"cannot speak mDNS on {where}: {error}; is a network connected?") from error
    try:
        yield zeroconf
    finally:
        await zeroconf.async_close()


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")


def own_addresses(host: str, interfaces: Sequence[str] = ()) -> list[str]:
    """Where this machine is reached that listens on `host`: IPv4; loopback only when there is nothing else."""
    if not _is_any(host):
        return [host]
    if interfaces:
        return list(interfaces)
    import ifaddr

    every = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [one for one in every if not ipaddress.ip_address(one).is_loopback] or ["127.0.0.1"]
