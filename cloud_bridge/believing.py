"""Whether a confirmation or an offer is HQ's own word to this store, or somebody's at the cloud broker.

Strategy: HQ's main key signed a statement of the keys that its receivers speak with; the statement comes with the
answer to a question (there is one on every connection) and is kept in ``bridge.db``. What is not believed changes
nothing: facts stay, and are sent again. Which proof is asked for is `[cloud] confirm_proof`:

    learn    without a statement of HQ's, what is unsigned is believed; from the first statement on nothing unsigned is
    always   nothing unsigned is ever believed
    never    everything is believed, as where there is no price_key

Not promised: that a word is fresh beyond `OLD_MS`. Of two true words of one receiver the older says less, and saying
less only has facts sent again. When the newest one was said is kept, so that an old one does not pass after a restart;
not when it lies ahead of this store's clock: a receiver whose clock was wrong must not be the last one believed. A new
statement begins anew with it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Literal

import orjson
from pydantic import ValidationError

from cloud_bridge.cursors import Cursors
from edge.bus.client import Message
from edge.bus.messages.signed import Signed
from edge.bus.messages.spoken import ConfirmKeys, Said, Spoken
from edge.bus.signatures import signed_by_one_of
from edge.supervisor import Background

log = logging.getLogger(__name__)

OLD_MS = 10 * 60 * 1000
"""A word that is so much older than the newest one is somebody's who kept it. Receivers' clocks may differ as much."""

HEARD_EVERY_MS = 60 * 1000
"""When the newest word was said is written down so often at most."""

Proof = Literal["learn", "always", "never"]


class Unbelieved(Exception):
    """It is not HQ's word to us; the text says why."""


class Believing:
    """What one store believes of what comes unsigned by the main key. `ask` asks HQ, whose answer introduces it."""

    def __init__(
        self,
        *,
        store: str,
        main_keys: Callable[[], tuple[str, ...]],
        proof: Proof,
        cursors: Cursors,
        ask: Callable[[], None],
        wall_now: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        self.trouble = ""
        """What a person should know: something is not believed. Empty when all is."""
        self.refused = 0
        """Messages that were not believed, since the start."""
        self._store = store
        self._main_keys = main_keys
        self._proof = proof
        self._cursors = cursors
        self._ask = ask
        self._wall_now = wall_now
        self._on_change = on_change
        self._known: ConfirmKeys | None = None
        self._learnt = False
        self._newest_ms = self._kept_ms = 0
        self._asked_serial = 0
        self._keeping = Background(sqlite3.Error)

    async def load(self) -> None:
        """Read the statement that was kept, and when HQ was heard last."""
        self._newest_ms = self._kept_ms = await self._cursors.heard_ms()
        kept = await self._cursors.statement()
        self._learnt = kept is not None  # also where HQ's main key is another since, and it counts no more
        if kept is not None:
            with contextlib.suppress(Unbelieved, ValidationError):
                self._known = self._checked(Signed.model_validate_json(kept))

    def believed(self, message: Message, about: Literal["confirmed", "offer"]) -> Message | None:
        """The message with what HQ says as its payload; None, and it is acknowledged, when it is not believed."""
        try:
            inside = self._read(message.payload, about)
        except Unbelieved as error:
            self.refused += 1
            message.ack()
            if self.trouble != str(error):
                log.error("%s: %s", message.topic, error)
                self.trouble = str(error)
                self._on_change()
            return None
        if self.trouble:
            self.trouble = ""
            self._on_change()
        return replace(message, payload=inside)

    def _read(self, payload: bytes, about: str) -> bytes:
        demanded = self._proof != "never" and bool(self._main_keys())
        try:
            spoken = Spoken.model_validate_json(payload)
        except ValidationError:
            if demanded and (self._proof == "always" or self._learnt):
                raise Unbelieved("what should be HQ's word came unsigned: somebody at the cloud broker?") from None
            return payload
        if demanded:
            self._introduced(spoken)
            self._check_word(spoken)
        try:
            said = Said.model_validate_json(spoken.text)
        except ValidationError:
            raise Unbelieved("HQ's word cannot be read: is the gateway older than HQ?") from None
        if (said.store, said.about) != (self._store, about):
            raise Unbelieved(f"HQ's word on {said.about} to store {said.store} came to us as one on {about}")
        if demanded:
            if said.at_ms < self._newest_ms - OLD_MS:
                raise Unbelieved("an old word of HQ's came again: somebody at the cloud broker?")
            self._newest_ms = max(self._newest_ms, said.at_ms)
            self._keep_heard(said.at_ms)
        return orjson.dumps(said.says)

    def _keep_heard(self, at_ms: int) -> None:
        ahead = at_ms > self._wall_now().timestamp() * 1000 + OLD_MS
        if at_ms >= self._kept_ms + HEARD_EVERY_MS and not ahead:
            self._kept_ms = at_ms
            self._keeping.start(self._cursors.keep_heard(at_ms), "keep when HQ was heard")

    def _introduced(self, spoken: Spoken) -> None:
        """Take the statement that came along, if it is newer than ours."""
        if spoken.statement is None or (self._known is not None and spoken.serial <= self._known.serial):
            return
        stated = self._checked(spoken.statement)
        if stated.serial != spoken.serial:  # or an older statement, sent again under a high number, would replace ours
            raise Unbelieved("a statement of confirm keys came under another number than HQ signed")
        self._known, self._learnt = stated, True
        self._newest_ms = self._kept_ms = 0  # nothing that former keys have signed is believed any more
        log.info("HQ's receivers speak with %d keys until %s", len(self._known.keys), self._known.not_after)
        self._keeping.start(self._cursors.keep_statement(spoken.statement.model_dump_json()), "keep HQ's statement")

    def _checked(self, statement: Signed) -> ConfirmKeys:
        if not signed_by_one_of(self._main_keys(), statement.text, statement.signature):
            raise Unbelieved("a statement of confirm keys is not signed by HQ's key ([cloud] price_key)")
        try:
            return ConfirmKeys.model_validate_json(statement.text)
        except ValidationError:
            raise Unbelieved("what HQ signed there is no statement of confirm keys") from None

    def _check_word(self, spoken: Spoken) -> None:
        known = self._known
        if known is None or spoken.serial > known.serial:
            if self._asked_serial != spoken.serial:
                self._asked_serial = spoken.serial
                self._ask()  # the answer brings the statement
            raise Unbelieved("HQ's receiver has not shown yet that its key is HQ's")
        if spoken.serial < known.serial:
            raise Unbelieved("HQ's word is signed with keys that HQ has replaced: receivers need the new one")
        if not signed_by_one_of(known.keys, spoken.text, spoken.signature):
            raise Unbelieved("what should be HQ's word is signed by somebody else: somebody at the cloud broker?")
        if self._wall_now() >= datetime.fromisoformat(known.not_after):
            raise Unbelieved(
                f"HQ's confirm key was good until {known.not_after}: compare `date` here with a watch; if the clock is"
                " right, HQ has to make a new one (tillgate hq confirm-key)"
            )
