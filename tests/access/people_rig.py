"""A store with people, on a real store.db, whose clocks a test can turn."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from edge.access.audit import Audit
from edge.access.people import PEOPLE_SCHEMA, People
from edge.access.roles import Role
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.seal import Keyring, Seal
from edge.services.facts import Reporter
from tests.access.recorded import recorded

START_MS = 1_780_000_000_000
PASSWORDS = {
    "olga": "seven yellow boats at noon",
    "otto": "a lamp that nobody lights",
    "tina": "wires under the old floor",
    "sven": "green Thursday",
    "susi": "wet umbrella 7",
    "anna": "482617",
    "bert": "905312",
}
"""Owners, a technician, supervisors, cashiers: the first letter says which (anna and bert are cashiers)."""
ROLE_OF = {"o": Role.OWNER, "t": Role.TECHNICIAN, "s": Role.SUPERVISOR}


class Shop:
    """`now_s` and `wall_ms` are turned by hand; `synced` is what the kernel says of its clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keyring = Keyring.new()
        self.mono_ms = 1_000_000
        self.wall_ms = START_MS
        self.synced: bool | None = True
        self.boot = "boot-1"
        self.store: Store
        self.people: People
        self.audit: Audit
        self.clock: Clock

    def pass_s(self, seconds: float) -> None:
        """So much time goes by."""
        self.mono_ms += int(seconds * 1000)
        self.wall_ms += int(seconds * 1000)

    @property
    def now_s(self) -> float:
        return self.wall_ms / 1000

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[People]:
        """One life of the gateway."""
        self.clock = Clock(
            wall_ms=lambda: self.wall_ms, mono_ms=lambda: self.mono_ms, synced=lambda: self.synced, boot=self.boot,
            marker=self.path / "no-such-file",
        )  # fmt: skip
        self.store = await Store.open(
            self.path / "store.db", "s1", clock=self.clock, schemas=[("people-1", PEOPLE_SCHEMA)]
        )
        self.audit = Audit(Reporter(self.store, "s1"))
        self.people = People(
            self.store, Seal(self.keyring, "people"), self.audit, self.clock, names=["Tillgate", "s1"],
            now_s=lambda: self.mono_ms / 1000,
        )  # fmt: skip
        await self.people.open()
        try:
            yield self.people
        finally:
            await self.people.close()
            self.audit.tell()
            await self.store.close()

    async def add(self, *ids: str) -> None:
        """Add some of `PASSWORDS`."""
        for id_ in ids:
            await self.people.add("test", id_, id_.title(), ROLE_OF.get(id_[0], Role.CASHIER), PASSWORDS[id_])

    async def audited(self, action: str | None = None) -> list[dict[str, Any]]:
        """What was recorded, all that was on its way included."""
        return [entry for entry in await recorded(self.store) if action in (None, entry["action"])]


def app_code(uri: str, now_s: float) -> str:
    """The code that an authenticator app shows, written from RFC 6238 and the text of its QR code."""
    import base64
    import hashlib
    import hmac
    from urllib.parse import parse_qs, urlsplit

    secret = parse_qs(urlsplit(uri).query)["secret"][0]
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    mac = hmac.new(key, int(now_s // 30).to_bytes(8, "big"), hashlib.sha1).digest()
    offset = mac[19] & 15
    value = int.from_bytes(bytes([mac[offset] & 127, *mac[offset + 1 : offset + 4]]), "big")
    return str(value % 1_000_000).rjust(6, "0")
