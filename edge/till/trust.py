"""Whom a till talks to: where the gateway is, whether it is it, and what keeps the two apart.

Strategy: a given address is kept to; else the gateway is found, and looked for again when it has been away for long.
When TLS fails, a handshake of our own tells whose fault it is: a stranger's (remembered, and told to the gateway once
it is there), a clock's (the certificate's dates are left unchecked from then on, which is said), or that of this till's
own certificate (it is renewed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from edge.bus.address import Address, TlsFiles
from edge.bus.client import Client, Disconnected
from edge.bus.messages.replies import ProblemError
from edge.card_guard import guarded
from edge.till.finding import Stranger, find_gateway, proven
from edge.till.https import NotBelieved, Unreachable
from edge.till.identity import Identity
from edge.till.ledger import Ledger
from edge.till.renewing import Renewing

log = guarded(__name__)

LOST_AFTER_S = 30.0
MAX_STRANGERS = 8
RENEWAL_DEADLINE_MS = 15_000

Request = Callable[..., Awaitable[dict[str, Any]]]
"""The till's own `request`."""


class Trust:
    """One till's. `request` is how the gateway is asked; the till tells what becomes of its connection."""

    def __init__(
        self,
        identity: Identity | None,
        address: Address | str | None,
        tls: TlsFiles | None,
        interfaces: Sequence[str],
        request: Request,
    ) -> None:
        if identity is not None:
            if tls is not None:
                raise ValueError("give either tls or an identity, which has its own")
            tls = identity.tls()
        given = Address.parse(address, tls) if isinstance(address, str) else address
        if given is not None and tls is not None and given.tls is None:
            raise ValueError(f"{given} speaks no TLS, and this till has a certificate: it never speaks plainly")
        self._given = given
        self._tls = tls
        self._identity = identity
        self._interfaces = interfaces
        self._request = request
        self._doubt = asyncio.Event()
        self._strangers: dict[str, Stranger] = {}
        self._telling: asyncio.Task[None] | None = None
        self._tried_host: str | None = None
        self.renewing = Renewing(identity, self._ask, self._host, self._renewed) if identity is not None else None

    async def gateway(self, store: str, ledger: Ledger) -> Address:
        """Where to connect; looks until there is somewhere."""
        if self._given is not None:
            return self._given
        first = self._identity.bus() if self._identity is not None else None
        return await find_gateway(
            store, ledger, self._tls, self._interfaces, first_time=first, on_stranger=self.met
        )  # fmt: skip

    def trying(self, address: Address) -> None:
        """A connection to `address` is being made."""
        self._doubt.clear()
        self._tried_host = address.host

    def lost(self, reason: Disconnected) -> None:
        """A connection was lost, or not made."""
        if reason.cause == "tls":
            self._doubt.set()

    def online(self, online: bool) -> None:
        """Whether the gateway can be asked now."""
        if self.renewing is not None:
            self.renewing.state(online=online)
        if online and self._strangers and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._report(), name="till strangers")

    async def stop(self) -> None:
        """End what is under way."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def useless(self, client: Client, address: Address) -> Address | None:
        """Return when this connection leads nowhere: where to go instead, or None to look for the gateway again."""
        while True:
            try:
                async with asyncio.timeout(LOST_AFTER_S if self._given is None else None):
                    await self._doubtful(client)
            except TimeoutError:
                if not client.connected:
                    return None
            if not self._doubt.is_set():
                continue
            self._doubt.clear()
            try:
                better = await proven(address)
            except Unreachable:
                continue
            except NotBelieved as error:
                self.met(Stranger(str(address.host), address.port, None, str(error)))
                if self._given is None:
                    return None
                # Perhaps it is the gateway all the same, under an authority that this till has missed.
                self._kept_out()
                continue
            if better != address:
                return better
            self._kept_out()

    async def _doubtful(self, client: Client) -> None:
        """Wait for a doubt, or, while there is no connection, for one."""
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(self._doubt.wait(), name="till doubt")]
        if not client.connected:
            waiting.append(asyncio.create_task(client.wait_connected(), name="till connected"))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    # -- strangers -----------------------------------------------------------------------------------------------------

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Who answers for this store and is not it, as far as the gateway has not heard of it yet."""
        return tuple(self._strangers.values())

    def met(self, stranger: Stranger) -> None:
        """Remember who cannot prove that he is the gateway."""
        if stranger.host not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            log.warning("%s, port %d is not our gateway: %s", stranger.host, stranger.port, stranger.why)
            self._strangers[stranger.host] = stranger

    async def _report(self) -> None:
        for host, stranger in list(self._strangers.items()):
            parameters = {"host": host, "port": stranger.port, "ca": stranger.ca, "why": stranger.why[:200]}
            try:
                await self._request("stranger.report", parameters)
            except ProblemError as problem:
                log.warning("the gateway does not hear of a stranger yet: %s", problem)
                return
            self._strangers.pop(host, None)

    # -- our own certificate -------------------------------------------------------------------------------------------

    def _kept_out(self) -> None:
        if self.renewing is not None:
            self.renewing.kept_out()

    async def _ask(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return await self._request(operation, parameters, deadline_ms=RENEWAL_DEADLINE_MS)

    def _host(self) -> str:
        """Where the gateway was last tried."""
        assert self._identity is not None
        return self._tried_host or self._identity.host

    def _renewed(self, identity: Identity) -> None:
        self._identity = identity
