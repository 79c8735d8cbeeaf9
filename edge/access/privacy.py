"""Erasing a customer and giving out what is kept about one: for a technician at the box, and for HQ.

Strategy: a customer is named by what tills send (a member's number), or by HQ with the pseudonym of this store, so that
no command and no record of it says who it was. What there is about somebody is found by walking the journal, a page to
an answer, because that may be a year of facts and nobody else shall wait for it; an export that nobody goes on with is
dropped. Both are in the audit, without the name.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import Field

from edge.access.audit import Audit
from edge.access.roles import Right
from edge.bus.envelope import now_utc
from edge.bus.messages.base import Message
from edge.bus.messages.commands import OneSubject
from edge.bus.messages.facts import ABOUT_CUSTOMERS, AuditAction, FactClass
from edge.bus.messages.personal import Person
from edge.bus.messages.replies import Code, ProblemError
from edge.journal import personal
from edge.journal.erasing import Erasure, naming
from edge.journal.reader import Reader, Row
from edge.journal.store import NotStored, Store
from edge.services.replies import not_stored
from edge.services.requests import Asked
from edge.services.technician import Service

PAGE_BYTES = 128 * 1024
PAGE_ROWS = 2_000
"""So much of the journal is looked at for one answer, whatever is found."""
SLICE_ROWS = 250
DROPPED_AFTER_S = 120.0
AROUND_A_RECEIPT = timedelta(days=1)
QUARANTINE_ROWS = 10_000

Page = dict[str, list[Any]]
Forget = Callable[[Callable[[bytes], object]], Awaitable[int]]
"""Drops whatever the given search finds somebody in; how much that was."""


class OneMember(Message):
    """A customer, by the number of their card."""

    member: str = Field(min_length=1, max_length=64, description="the number, as tills send it")


class Export(OneMember):
    """The next page about a customer."""

    export: str | None = Field(default=None, description="go on with this one; null: begin")


@dataclass(frozen=True, slots=True)
class _Begun:
    """An export that is not at its end. Monotonic seconds."""

    member: str
    pages: AsyncGenerator[Page, None]
    at_s: float


class Privacy:
    """The store's end of it; one per process."""

    def __init__(self, store: Store, audit: Audit, forget_prints: Forget) -> None:
        self._store = store
        self._audit = audit
        self._forget_prints = forget_prints
        self._exports: dict[str, _Begun] = {}

    def services(self) -> Mapping[str, Service]:
        """What the technician's desk serves."""
        return {
            "privacy.erase": Service(OneMember, self.erase, Right.PRIVACY),
            "privacy.readmit": Service(OneMember, self.readmit, Right.PRIVACY),
            "privacy.export": Service(Export, self.export, Right.PRIVACY),
        }

    # -- erasing -------------------------------------------------------------------------------------------------------

    async def erase(self, asked: Asked, parameters: OneMember) -> dict[str, Any]:
        """As `Erasure`, with ``printed``: receipts that were dropped, and ``whole``: nothing is left to be done."""
        return await self._erased(Person("member", parameters.member), asked.by)

    async def readmit(self, asked: Asked, parameters: OneMember) -> dict[str, Any]:
        """``{}``; not_found when they were not erased."""
        if not await self._store.readmit(Person("member", parameters.member)):
            raise ProblemError(Code.NOT_FOUND, "nobody with this number was erased here")
        await self._audit.record(AuditAction.SUBJECT_READMITTED, person=asked.by)
        return {}

    async def erase_for_hq(self, command: str, parameters: OneSubject) -> dict[str, Any]:
        """``{"erased": whether there was a key to destroy, ...}``; HQ's command, which knows only the pseudonym."""
        found = await self._store.whose(parameters.subject)
        if found is None:
            return {"erased": False}
        return {"erased": True, **await self._erased(found.person, "hq")}

    async def _erased(self, person: Person, who: str | None) -> dict[str, Any]:
        try:
            printed = await self._forget_prints(naming(person.name))
            erasure = await self._store.erase(person)
            await self._tell(who, erasure, printed)
        except NotStored as error:
            raise not_stored(error) from error
        return {**asdict(erasure), "printed": printed, "whole": erasure.whole}

    async def _tell(self, who: str | None, erasure: Erasure, printed: int) -> None:
        detail = f"{erasure.quarantined} bad messages and {printed} receipts dropped"
        if erasure.unsearched:
            detail += f"; cannot be searched: {', '.join(erasure.unsearched)}"
        if erasure.closed:
            detail += f"; {erasure.closed} keys cannot be opened now"
        if not erasure.folded:
            detail += "; the write-ahead log is not folded in yet"
        subject = " ".join(erasure.pseudonyms) or None
        await self._audit.record(AuditAction.SUBJECT_ERASED, person=who, subject=subject, detail=detail)

    # -- giving out ----------------------------------------------------------------------------------------------------

    async def export(self, asked: Asked, parameters: Export) -> dict[str, Any]:
        """``{"export": id to go on with, null at the end, "pseudonyms", "facts", "receipts", "quarantined"}``."""
        await self._drop_idle()
        found = await self._store.subjects(Person("member", parameters.member))
        pseudonyms = [one.pseudonym for one in found]
        if parameters.export is None:
            subject = " ".join(pseudonyms) or None
            await self._audit.record(AuditAction.SUBJECT_EXPORTED, person=asked.by, subject=subject)
            id_ = secrets.token_hex(8)
            begun = _Begun(parameters.member, self._pages(Person("member", parameters.member)), time.monotonic())
        else:
            id_ = parameters.export
            going_on = self._exports.pop(id_, None)
            if going_on is None or going_on.member != parameters.member:
                raise ProblemError(Code.NOT_FOUND, "there is no such export any more: begin again")
            begun = going_on
        page = await anext(begun.pages, None)
        if page is None:
            return {"export": None, "pseudonyms": pseudonyms, "facts": [], "receipts": [], "quarantined": []}
        self._exports[id_] = replace(begun, at_s=time.monotonic())
        return {"export": id_, "pseudonyms": pseudonyms, **page}

    async def _drop_idle(self) -> None:
        now = time.monotonic()
        for id_, begun in list(self._exports.items()):
            if now - begun.at_s > DROPPED_AFTER_S:
                del self._exports[id_]
                await begun.pages.aclose()

    async def _pages(self, person: Person) -> AsyncGenerator[Page, None]:
        """First the facts that name them, then the other facts of those receipts, then bad input that names them."""
        found = await self._store.subjects(person)
        reader = await Reader.open(self._store.path)
        try:
            receipts = _Receipts()
            if found:
                named = _Named({one.pseudonym: one.key for one in found}, receipts)
                async for page in _walk(reader, ABOUT_CUSTOMERS, "facts", named):
                    yield page
                others = [one for one in FactClass if one not in ABOUT_CUSTOMERS]
                async for page in _walk(reader, others if receipts.moments else (), "receipts", receipts):
                    yield page
            names = naming(person.name)
            for row in await reader.quarantine(QUARANTINE_ROWS):
                if names(row.payload) or names(row.reason.encode(errors="replace")):
                    text = row.payload.decode(errors="replace")
                    yield _page(quarantined=[{"received_at": row.received_at, "origin": row.origin, "text": text}])
        finally:
            await reader.close()


class _Named:
    """Takes the facts that speak of one person, opened; notes their receipts."""

    def __init__(self, keys: Mapping[str, bytes], receipts: _Receipts) -> None:
        self._keys = keys
        self._receipts = receipts

    def take(self, row: Row) -> dict[str, Any] | None:
        if not any(pseudonym in self._keys for pseudonym in personal.pseudonyms_in(row.body)):
            return None
        event = personal.opened_as_far_as_possible(orjson.loads(row.body), self._keys.get)
        self._receipts.note(event)
        return event


class _Receipts:
    """Receipts of one person, and the facts that have the same lane and number and are of about the same time."""

    def __init__(self) -> None:
        self.moments: dict[tuple[object, object], list[datetime]] = {}

    def note(self, event: Mapping[str, Any]) -> None:
        number = event["data"].get("receipt_number")
        if isinstance(number, str):
            recorded = datetime.fromisoformat(event["tgrecorded"])
            self.moments.setdefault((event["source"], number), []).append(recorded)

    def take(self, row: Row) -> dict[str, Any] | None:
        if b'"receipt_number"' not in row.body:
            return None
        event: dict[str, Any] = orjson.loads(row.body)
        data = event.get("data")
        number = data.get("receipt_number") if isinstance(data, dict) else None
        near = self.moments.get((event["source"], number if isinstance(number, str) else None), ())
        recorded = datetime.fromisoformat(event["tgrecorded"])
        return event if any(abs(recorded - one) <= AROUND_A_RECEIPT for one in near) else None


async def _walk(
    reader: Reader, classes: Sequence[FactClass] | frozenset[FactClass], name: str, of: _Named | _Receipts
) -> AsyncIterator[Page]:
    """Pages of what `of` takes from all facts of these classes, earlier epochs first."""
    found: list[Any] = []
    size_bytes = looked_at = 0
    *earlier, _ = await reader.epochs()
    for epoch in (*earlier, None):
        for fact_class in sorted(classes):
            after = 0
            while rows := await reader.tail(fact_class, after, SLICE_ROWS, epoch=epoch):
                after, looked_at = rows[-1].seq, looked_at + len(rows)
                for row in rows:
                    if (event := of.take(row)) is not None:
                        found.append(event)
                        size_bytes += len(row.body)
                if size_bytes > PAGE_BYTES or looked_at >= PAGE_ROWS:
                    yield _page(**{name: found})
                    found, size_bytes, looked_at = [], 0, 0
                await asyncio.sleep(0)  # a scan goes first
    yield _page(**{name: found})


def _page(**parts: list[Any]) -> Page:
    return {"facts": [], "receipts": [], "quarantined": [], **parts}


def as_document(store: str, member: str, pages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The pages of one export as one document."""
    document: dict[str, Any] = {"store": store, "kind": "member", "name": member, "at": now_utc()}
    for name in ("facts", "receipts", "quarantined"):
        document[name] = [one for page in pages for one in page[name]]
    document["pseudonyms"] = pages[0]["pseudonyms"]
    return document
