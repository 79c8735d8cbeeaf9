"""How tills come to be lanes, put together: invitations, the enrolment listener, the technician's desk for lanes.

Strategy: one object for the edge process. The listener is there whenever tills reach the bus by TLS; that its port is
taken, or that it fails, is told to people and tried again, and ends nothing. Whoever was seen at a lane last is noted
for people, without a write of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from edge.access.advertising import Advertising
from edge.access.broker_identity import BrokerIdentity, ensure_broker_identity, server_name
from edge.access.enrolment import Enrolment
from edge.access.enrolment_listener import CannotListen, Listener, Shown
from edge.access.invitations import INVITATIONS_SCHEMA, Invitations
from edge.access.lane_desk import LaneDesk
from edge.access.strangers import Strangers
from edge.bus.discovery import DiscoveryFailed, own_addresses
from edge.bus.envelope import now_utc
from edge.card_guard import guarded
from edge.config import StoreConfig
from edge.journal.clock import Clock
from edge.journal.store import NotStored, Store
from edge.seal import Seal
from edge.services.facts import Report
from edge.services.requests import Handler
from edge.services.technician import Service
from edge.supervisor import Background, Pauses, keep_running

if TYPE_CHECKING:
    from edge.access.audit import Audit
    from edge.access.authority import Authority
    from edge.access.authority_care import AuthorityCare
    from edge.services.warnings import Warnings

log = guarded(__name__)

PAUSES = Pauses(first_s=1.0, longest_s=10.0)
WARNING = "enrolment_closed"
SEEN_NOW = "now"

_SEEN = """
CREATE TABLE lanes_seen (
    lane TEXT PRIMARY KEY,
    at   TEXT NOT NULL                   -- wall clock, for people: when its till was last there
) STRICT, WITHOUT ROWID;
"""
ADMISSION_SCHEMAS = (("invitations-1", INVITATIONS_SCHEMA), ("lanes-seen-1", _SEEN))


class Admission:
    """Use `run` as a task, `services` at the technician's desk, `seen` as a watcher of the lanes' presence."""

    def __init__(
        self,
        config: StoreConfig,
        store: Store,
        clock: Clock,
        care: AuthorityCare,
        report: Report,
        audit: Audit,
        warnings: Warnings,
    ) -> None:
        self._config = config
        self._store = store
        self._warnings = warnings
        self._identity = BrokerIdentity.of(config.state_dir)
        lanes = [lane.id for lane in config.lanes]
        authority = care.authority
        invitations = Invitations(store, clock, Seal(store.keyring, "enrolment"))
        self.enrolment = Enrolment(
            config.store.id, lanes, invitations, authority, audit, warnings, bus_port=config.bus.port
        )
        self.listener: Listener | None = None
        if config.bus.port and config.enrolment.port:
            shown = Shown(self._identity.certificate)
            self.listener = Listener(config.bus.host, config.enrolment.port, shown, self.enrolment.answer)
        self._strangers = Strangers(
            own=partial(own_addresses, config.bus.host, config.bus.interfaces),
            port=config.bus.port,
            authorities=partial(_believed, authority),
            trusted=self._identity.trusted,
            server_name=server_name(config.store.id),
            report=report,
            audit=audit,
            warnings=warnings,
        )
        self._advertising: Advertising | None = None
        if config.bus.port and config.bus.advertise:
            self._advertising = Advertising(config, authority, self._strangers)
        self._desk = LaneDesk(config, self.enrolment, self.listener, authority, care.revoke_lane, lambda: self._seen)
        self._seen: dict[str, str] = {}
        self._writing = Background(NotStored)

    async def open(self) -> None:
        """Read who was seen in earlier lives."""
        self._seen = dict(await self._store.fetch_all("SELECT lane, at FROM lanes_seen"))

    def services(self) -> Mapping[str, Service]:
        """What the technician's desk serves."""
        return self._desk.services()

    def seen(self, lane: str, online: bool) -> None:
        """A lane's till has come, or has gone."""
        if online:
            self._seen[lane] = SEEN_NOW
        elif self._seen.get(lane) == SEEN_NOW:
            self._seen[lane] = now_utc()
        else:
            return  # what the broker remembers of one that went before: its hour is known already, or by nobody
        note = (
            "INSERT INTO lanes_seen(lane, at) VALUES (?1, ?2) ON CONFLICT (lane) DO UPDATE SET at = ?2",
            (lane, now_utc()),
        )
        self._writing.hold(self._store.write([note], urgent=False), f"when lane {lane} was seen")

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask."""
        return self._strangers.operations()

    async def run(self) -> None:
        """Listen, advertise, and look out for strangers, for as long as edge runs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_running("strangers", self._strangers.run), name="strangers")
            if self.listener is not None:
                listening = keep_running("enrolment", self._listen, expected=(CannotListen,), pauses=PAUSES)
                group.create_task(listening, name="enrolment")
            if self._advertising is not None:
                advertising = keep_running("mDNS", self._advertising.run, expected=(DiscoveryFailed,))
                group.create_task(advertising, name="mDNS")

    async def _listen(self) -> None:
        assert self.listener is not None
        try:
            if not self._identity.certificate.exists():
                await asyncio.to_thread(ensure_broker_identity, self._config)
            await self.listener.run(lambda: self._warnings.clear(WARNING))
        except OSError as error:
            raise CannotListen(f"tills cannot enrol: {error}") from error
        except CannotListen as error:
            self._warnings.set(WARNING, str(error))
            raise


def _believed(authority: Authority) -> frozenset[str]:
    """The fingerprints that an answer of ours may carry."""
    book = authority.book
    return frozenset(one.fingerprint for one in book.generations) if book is not None else frozenset()
