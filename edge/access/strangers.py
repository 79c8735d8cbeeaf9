"""Somebody else who answers for this store's gateway on the network: noticed, told to people, recorded.

Strategy: an answer is our own when it names our address, port and authority. Any other is asked to prove itself by a
TLS handshake under our authority's name, as a till would ask: who can is ours (another interface, a box that took over
with our authority). Nobody there, and our authority's name in the answer, is a memory of our own life at another
address. What is left is a stranger. He gains nothing from tills that have enrolled; people should find him all the
same. What tills report is taken as it is: they have seen more of the network than we.

Each stranger is recorded once an hour at most, and only so many in an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from edge.access.audit import Audit
from edge.bus.discovery import Found
from edge.bus.messages.facts import AuditAction, StrangerSeen
from edge.bus.messages.requests import StrangerReport
from edge.card_guard import guarded
from edge.journal.store import NotStored
from edge.services.facts import Report
from edge.services.requests import Asked, Handler
from edge.services.warnings import Warnings

log = guarded(__name__)

PROVE_WITHIN_S = 5.0
AGAIN_S = 3600.0
IN_AN_HOUR = 20
WARN_FOR_S = 24 * 3600.0
WARNING = "stranger_seen"
WAITING = 32

Verdict = Literal["ours", "silent", "stranger"]


class Strangers:
    """Judges answers. `heard` takes those of mDNS, `operations` serves the tills; `run` does the work.

    `own` gives our addresses, `port` is the bus's, `authorities` the fingerprints that our answers may carry,
    `trusted` the file with our authorities, `server_name` what our certificates say.
    """

    def __init__(
        self,
        *,
        own: Callable[[], list[str]],
        port: int,
        authorities: Callable[[], frozenset[str]],
        trusted: Path,
        server_name: str,
        report: Report,
        audit: Audit,
        warnings: Warnings,
    ) -> None:
        self._own = own
        self._port = port
        self._authorities = authorities
        self._trusted = trusted
        self._server_name = server_name
        self._report = report
        self._audit = audit
        self._warnings = warnings
        self._answers: asyncio.Queue[Found] = asyncio.Queue(WAITING)
        self._told: dict[tuple[str, int, str | None], float] = {}
        self._calm: asyncio.TimerHandle | None = None

    def heard(self, found: Found) -> None:
        """Take one answer for our store; a flood of them is not queued."""
        if not self._answers.full():
            self._answers.put_nowait(found)

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask."""
        return {"stranger.report": self._reported}

    async def run(self) -> NoReturn:
        """Judge what was heard, for ever."""
        while True:
            found = await self._answers.get()
            with contextlib.suppress(NotStored):
                await self.judge(found)

    async def judge(self, found: Found) -> None:
        """Decide about one answer. Raises NotStored."""
        own, authorities = self._own(), self._authorities()
        known = found.ca in authorities
        ours = [address for address in found.addresses if address in own]
        others = [address for address in found.addresses if address not in own]
        if found.port == self._port and found.tls and known and not others:
            return
        if not found.tls:
            await self._seen((*others, *ours), found.port, found.ca, "it offers the bus without TLS")
            return
        for address in (*others, *(() if found.port == self._port else ours)):
            verdict, why = await self._proof(address, found.port)
            if verdict == "stranger" or (verdict == "silent" and not known):
                await self._seen((address,), found.port, found.ca, why)
                return
        if not known and found.port == self._port and ours:
            await self._seen(tuple(ours), found.port, found.ca, "it names our address and another authority")

    async def _proof(self, address: str, port: int) -> tuple[Verdict, str]:
        """Whether who listens there can prove to be this store's gateway."""
        try:
            context = ssl.create_default_context(cafile=str(self._trusted))
        except OSError as error:
            log.warning("nobody can be told from a stranger now: %s", error)
            return "ours", ""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            async with asyncio.timeout(PROVE_WITHIN_S):
                _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=self._server_name)
                writer.transport.abort()
        except ssl.SSLCertVerificationError as error:
            return "stranger", error.verify_message
        except (ssl.SSLError, ConnectionResetError, EOFError) as error:
            return "stranger", f"it speaks no TLS: {getattr(error, 'reason', '') or error}"
        except OSError as error:  # TimeoutError is one
            return "silent", f"nobody answers there: {error.strerror or 'no answer'}"
        return "ours", ""

    async def _reported(self, asked: Asked, parameters: StrangerReport) -> dict[str, Any]:
        await self._seen((parameters.host,), parameters.port, parameters.ca, parameters.why, lane=asked.lane)
        return {}

    async def _seen(
        self, addresses: tuple[str, ...], port: int, ca: str | None, why: str, *, lane: str | None = None
    ) -> None:
        now = time.monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < AGAIN_S}
        key = (addresses[0], port, ca)
        if key in self._told or len(self._told) >= IN_AN_HOUR:
            return
        self._told[key] = now
        where = f"{addresses[0]}, port {port}"
        by = f"the till of lane {lane}" if lane else "this gateway"
        self._warnings.set(
            WARNING,
            f"something at {where} answers for this store and is not its gateway ({why}); seen by {by}. Tills do not "
            "believe it. Find that device and take it off the network; if it is your old gateway, switch it off",
        )
        if self._calm is not None:
            self._calm.cancel()
        self._calm = asyncio.get_running_loop().call_later(WARN_FOR_S, self._warnings.clear, WARNING)
        fact = StrangerSeen(
            addresses=addresses[:16],
            port=port,
            ca=ca[:128] if ca else None,
            seen_by="lane" if lane else "gateway",
            lane=lane,
            why=why[:200],
        )
        self._audit.record(AuditAction.STRANGER_SEEN, lane=lane, subject=where, detail=why)
        await self._report(fact)
