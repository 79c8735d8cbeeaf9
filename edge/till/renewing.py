"""A till's certificate is kept fresh without anybody's care, and without ever standing in the way of a sale.

Strategy: while the bus is there, a new certificate is asked for on it when a third of the old one's life is left, and
when the store's authority has changed. A till that is kept out of the bus by its certificate (it has slept for months,
or a clock has jumped) asks at the enrolment listener, with the old key as proof. Every failure is tried again later;
facts wait in the ledger meanwhile and selling goes on. Each renewal makes a new key.

A new authority is believed when one that is believed has signed it, and never because somebody says so.

Source: docs/till.md, Renewing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson
from pydantic import ValidationError

from edge.bus import enrolment
from edge.bus.enrolment import Renewed, RenewRequest
from edge.bus.messages.replies import ProblemError
from edge.card_guard import guarded
from edge.till import keypair
from edge.till.https import NotBelieved, Unreachable, asking
from edge.till.identity import Identity

log = guarded(__name__)

LOOK_EVERY_S = 3600.0
SETTLES_S = 10.0
"""A connection that was tried with the old certificate may fail so long after there is a new one."""
WRONG_CLOCK_S = 20 * 86_400.0
"""A fresh certificate that is due again at once has been read by a wrong clock: then this much running time counts."""
AGAIN_S = 30.0
AGAIN_TO_S = 1800.0
WITHIN_S = 15.0
OPERATION = "certificate.renew"

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Asks the gateway on the bus: (operation, parameters) to the result. Raises ProblemError."""


class NotRenewed(Exception):
    """It did not work this time; the text says why."""


class Renewing:
    """Keeps `identity` fresh. `state` and `kept_out` are told by the till, `run` does the work.

    `on_renewed` is called after new files are on disk: the next connection uses them. `host` gives where the gateway
    was last reached.
    """

    def __init__(
        self, identity: Identity, ask: Ask, host: Callable[[], str], on_renewed: Callable[[Identity], None]
    ) -> None:
        self.identity = identity
        self.problem = ""
        """Why renewing fails just now, for whoever asks the till how it is."""
        self._ask = ask
        self._host = host
        self._on_renewed = on_renewed
        self._online = False
        self._kept_out = False
        self._authority_moved = False
        self._look = asyncio.Event()
        self._not_before_s = self._settled_s = 0.0

    def state(self, *, online: bool) -> None:
        """Whether the gateway can be asked on the bus now."""
        if online and not self._online:
            self._kept_out = False
            self._look.set()
        self._online = online

    def kept_out(self) -> None:
        """The bus does not let this till in because of its certificate, or its certificate of the bus's."""
        if not self._kept_out and asyncio.get_running_loop().time() >= self._settled_s:
            self._kept_out = True
            self._look.set()

    def authority_came(self, payload: bytes) -> None:
        """Take ``store/authority``: who certifies now. What cannot be proved is not believed."""
        try:
            table = orjson.loads(payload)
            fingerprint, trusted = f"{table['fingerprint']:s}", f"{table['trusted']:s}"  # TypeError: no text
        except (orjson.JSONDecodeError, KeyError, TypeError):
            log.warning("what came as the store's authority cannot be read")
            return
        known = self.identity.trusted
        grown = keypair.extended(known, trusted)
        if grown != known:
            log.warning("the store has a new authority; it is signed by the one this till believes")
            self.identity.believe(grown)
        if fingerprint != keypair.issuer_of(self.identity.pem, grown):
            self._authority_moved = True
            self._look.set()

    async def run(self) -> NoReturn:
        """Renew when it is time, for ever."""
        failures = 0
        while True:
            self._look.clear()
            if self._wanted():
                try:
                    await self._renew()
                    failures, self.problem = 0, ""
                except (NotRenewed, OSError, ValueError) as error:
                    failures += 1
                    if str(error) != self.problem:
                        log.warning("the certificate of this till is not renewed yet: %s", error)
                    self.problem = str(error)
            wait_s = min(AGAIN_TO_S, AGAIN_S * 2 ** min(failures - 1, 10)) if failures else LOOK_EVERY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s * random.uniform(0.75, 1.0)):
                    await self._look.wait()

    def _wanted(self) -> bool:
        if self._kept_out:
            return True
        due = datetime.now(UTC) >= self.identity.renew_at() and asyncio.get_running_loop().time() >= self._not_before_s
        return self._online and (due or self._authority_moved)

    async def _renew(self) -> None:
        key = keypair.new_key()
        csr = keypair.request(key, self.identity.lane)
        if self._online:
            fresh = await self._on_the_bus(csr)
        else:
            fresh = await self._at_the_listener(csr)
        certificate, trusted, server_name = fresh
        if not keypair.belongs(certificate, csr):
            raise NotRenewed("the certificate that came is for another key")
        # Who speaks for the gateway has shown its key, not the authority's: that one is copied from a disk more easily.
        trusted = keypair.followed(self.identity.trusted, trusted, by=certificate)
        if keypair.issuer_of(certificate.encode(), trusted) is None:
            raise NotRenewed("the certificate that came is not signed by an authority that this till believes")
        renewed = self.identity.renewed(keypair.not_after(certificate), server_name)
        renewed.save(keypair.pem(key), certificate, trusted)
        self.identity = renewed
        self._kept_out = self._authority_moved = False
        self._settled_s = asyncio.get_running_loop().time() + SETTLES_S
        if datetime.now(UTC) >= renewed.renew_at():
            self._not_before_s = asyncio.get_running_loop().time() + WRONG_CLOCK_S
            log.warning("a certificate that has just been made looks old by this till's clock: set it")
        log.info("lane %s has a new certificate, until %s", renewed.lane, renewed.not_after)
        self._on_renewed(renewed)

    async def _on_the_bus(self, csr: str) -> tuple[str, str, str]:
        try:
            result = await self._ask(OPERATION, {"csr": csr})
        except ProblemError as problem:
            raise NotRenewed(str(problem)) from None
        certificate, trusted = result.get("certificate"), result.get("trusted")
        if not isinstance(certificate, str) or not isinstance(trusted, str):
            raise NotRenewed("the gateway's answer holds no certificate")
        return certificate, trusted, self.identity.server_name

    async def _at_the_listener(self, csr: str) -> tuple[str, str, str]:
        host, port = self._host(), self.identity.enrol_port
        try:
            try:
                return await self._ask_there(host, port, csr, any_time=False)
            except NotBelieved as error:
                if not error.dated:
                    raise
            log.warning("the gateway's certificate is not valid by this till's clock; renewing all the same")
            return await self._ask_there(host, port, csr, any_time=True)
        except (NotBelieved, Unreachable) as error:
            raise NotRenewed(str(error)) from None

    async def _ask_there(self, host: str, port: int, csr: str, *, any_time: bool) -> tuple[str, str, str]:
        old = self.identity.pem
        files = self.identity.tls(any_time=any_time)
        context = files.context(with_certificate=False)
        async with asking(host, port, context, server_name=self.identity.server_name, within_s=WITHIN_S) as there:
            draft = RenewRequest(
                v=1, certificate=keypair.certificate_of(old), csr=csr, nonce=secrets.token_hex(32), signature="0" * 8
            )
            signature = keypair.sign(keypair.read_key(old), enrolment.renewal_transcript(draft, there.server))
            request = draft.model_copy(update={"signature": signature})
            told = await there.post(enrolment.RENEW, request.model_dump_json().encode(), host)
        if told.status != 200:
            raise NotRenewed(told.refusal())
        try:
            answer = Renewed.model_validate(told.table)
        except ValidationError:
            raise NotRenewed(f"{host} answers as no gateway does") from None
        return answer.certificate, answer.trusted, answer.server_name
