"""A till's end of the store's bus: what a till developer would otherwise get wrong.

Strategy: three parts that know nothing of MQTT do the thinking: `Outbox` (facts, from the ledger on this machine's
disk), `Asking` (requests) and `ScanInbox`. This module joins them to the bus client: it finds the gateway, keeps the
connection, passes messages on, and tells the parts when the connection or the gateway goes and comes. A till sells on
without a gateway: facts wait in the ledger, prices come from the ledger's memory, requests end at their deadline.

Presence is a retained message with a last will, so that everybody sees within the keep-alive that a till has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from edge.bus import topics
from edge.bus.client import Address, BusError, Client, Disconnected, Message, TlsFiles, Will
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import FACTS, TYPE_OF
from edge.bus.messages.requests import DEFAULT_DEADLINE_MS
from edge.bus.messages.statuses import Presence
from edge.card_guard import guarded
from edge.card_numbers import CardNumberRefused, in_json
from edge.seal import Keyring
from edge.till.asking import Asking
from edge.till.finding import Stranger
from edge.till.identity import Identity, NoIdentity
from edge.till.ledger import Ledger, owner_of
from edge.till.outbox import Outbox, Pending, Refused
from edge.till.prices import Price, Prices
from edge.till.reading import GatewayView, problem_of, table_of
from edge.till.scans import Rejection, Scan, ScanInbox
from edge.till.trust import Trust

log = guarded(__name__)

AWAY_STATES = frozenset({"unknown", "starting", "stopped"})
"""States in which the gateway answers nothing: ``unknown`` until it has said something, ``stopped`` its last will."""

MAX_FACT_BYTES = 262_144
"""No gateway can be configured to take more."""

PUBLISH_S = 5.0
PRICE_DEADLINE_MS = 2_000
FAREWELL_S = 2.0


class Till:
    """One lane's till. Use it as ``async with``; it is ready to record facts at once, gateway or not.

    `identity` is what `enrol` has made (or its folder): then `store` and `lane` are known, and the certificate is kept
    fresh. When the folder is damaged, a till that is given its store and lane, or whose ledger knows them, sells on
    without the gateway and says why (`certificate_problem`); else NoIdentity. `address` as ``host:port`` (or an
    `Address`); left out, the gateway of `store` is found by mDNS on `interfaces`.
    `tls` names the PEM files for TLS: with it, the till never speaks to a gateway that has none. Without it, only a
    gateway on the same machine lets the till in (`plain_port`). `on_gateway` is called when the gateway comes or goes,
    `on_store` with (subject, payload) for every message to all tills, `on_refused` for a fact the gateway will
    never take, `on_rejected_scan` when something was scanned that cannot be delivered ("Scan it again"), `on_weight`
    with each live weight while the till watches a scale (`scale.watch`). WrongLedger when the ledger's file is another
    lane's or already in use.
    """

    def __init__(
        self,
        *,
        ledger_path: Path,
        seal_key: Keyring | None = None,
        store: str | None = None,
        lane: str | None = None,
        identity: Identity | Path | None = None,
        address: Address | str | None = None,
        tls: TlsFiles | None = None,
        interfaces: Sequence[str] = (),
        app: str = "",
        version: str = "",
        protocol: int = 5,
        scan_age_s: float = 3.0,
        on_gateway: Callable[[bool], None] | None = None,
        on_store: Callable[[str, bytes], None] | None = None,
        on_refused: Callable[[Refused], None] | None = None,
        on_rejected_scan: Callable[[Rejection], None] | None = None,
        on_weight: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._no_identity = ""
        known: Identity | None = None
        if isinstance(identity, Path):
            try:
                known = Identity.load(identity)
            except NoIdentity as error:
                store, lane = _without_identity(store, lane, ledger_path, error)
                self._no_identity = f"{error}. This till sells on without the gateway"
                log.error("%s", self._no_identity)
        else:
            known = identity
        self.store = _same("store", store, known.store if known else None)
        self.lane = _same("lane", lane, known.lane if known else None)
        self.gateway = GatewayView()
        self._ledger_path = ledger_path
        self._seal_key = seal_key
        self._trust = Trust(known, address, tls, interfaces, self.request)
        self._app = app
        self._version = version
        self._protocol = protocol
        self._inbox = ScanInbox(scan_age_s)
        self._asking = Asking(self._send_request)
        self._on_gateway = on_gateway
        self._on_store = on_store
        self._on_refused = on_refused
        self._on_weight = on_weight
        self._on_rejected_scan = on_rejected_scan
        self._client: Client | None = None
        self._was_online = False
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self.ledger = await Ledger.open(self._ledger_path, self.store, self.lane, self._seal_key)
        self._outbox = Outbox(self.ledger, self._send_fact, self._on_refused)
        self._prices = Prices(self.ledger, self.request)
        self._tasks = [
            asyncio.create_task(self._outbox.run(), name=f"till outbox {self.lane}"),
            asyncio.create_task(self._stay_linked(), name=f"till link {self.lane}"),
        ]
        if self._trust.renewing is not None:
            self._tasks.append(asyncio.create_task(self._trust.renewing.run(), name=f"till certificate {self.lane}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        link = self._tasks[1]
        await asyncio.wait([link], timeout=FAREWELL_S)
        await self._trust.stop()
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception) and error is None:
                raise outcome

    # -- facts ---------------------------------------------------------------------------------------------------------

    async def fact(self, data: Recorded) -> Pending:
        """Record what happened. On this machine's disk when it returns; `Pending.accepted()` waits for the gateway.

        `data` is one of the models of `edge.bus.messages.facts` that a till may report (ValueError otherwise). One that
        holds payment card data is refused before anything of it is kept: `CardNumberRefused`, a ValueError with the
        `code` of the bus and the place; nothing has happened, no number was used up. Record it without.
        """
        self._raise_fault()
        row = FACTS.get(TYPE_OF.get(type(data), ""))
        if row is None or not row.from_till:
            known = ", ".join(sorted(row.data.__name__ for row in FACTS.values() if row.from_till))
            raise ValueError(f"{type(data).__name__} is not a fact a till reports; those are {known}")
        table = data.model_dump(mode="json", exclude_none=True)
        if (place := in_json(table)) is not None:
            raise CardNumberRefused(place)
        if len(orjson.dumps(table)) > MAX_FACT_BYTES:
            raise ValueError(f"a fact holds at most {MAX_FACT_BYTES} bytes: record it in parts")
        return await self._outbox.add(row.name, table)

    async def all_answered(self) -> None:
        """Wait until the gateway has answered every fact of the ledger, as at the end of the day."""
        await self._outbox.nothing_left()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def request(
        self,
        operation: str,
        parameters: dict[str, Any] | None = None,
        *,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        id_: str | None = None,
        session: str | None = None,
        grant: str | None = None,
    ) -> dict[str, Any]:
        """Ask the gateway to do something; returns the reply's result.

        `session` (of ``person.log_in``) and `grant` (of ``override.grant``) say who asks, and who has approved.
        ProblemError with the gateway's code, or ``timed_out`` when no answer came within the deadline: then nobody
        here knows whether it was done. Asking again with the same `id_` is safe: it is done at most once.
        """
        beside = {name: value for name, value in (("session", session), ("grant", grant)) if value is not None}
        return await self._asking.ask(operation, parameters or {}, deadline_ms=deadline_ms, id_=id_, beside=beside)

    async def price(self, code: str, *, deadline_ms: int = PRICE_DEADLINE_MS) -> Price:
        """The price of `code`: from the gateway, or remembered (``confidence="local"``) while that is away.

        ProblemError ``not_found`` when the store does not sell it, ``timed_out`` when the gateway is away and this
        till has never asked for it before.
        """
        return await self._prices.find(code, online=self.gateway_online, deadline_ms=deadline_ms)

    # -- scans ---------------------------------------------------------------------------------------------------------

    async def next_scan(self) -> Scan:
        """The next scan that is still fresh; waits as long as it takes."""
        return await self._inbox.next()

    async def scans(self) -> AsyncIterator[Scan]:
        """Every fresh scan, for ever: ``async for scan in till.scans()``."""
        while True:
            yield await self._inbox.next()

    def discard_scans(self) -> int:
        """Forget scans nobody has taken, as between two customers; returns how many there were."""
        return self._inbox.discard()

    @property
    def scan_counts(self) -> Any:
        """Counters since start: received, repeated, stale, missed, unreadable, rejected."""
        return self._inbox.counts

    # -- who is there --------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the broker is reached."""
        return self._client is not None and self._client.connected

    @property
    def gateway_online(self) -> bool:
        """Whether the gateway can be asked now: the broker is reached and the gateway says that it serves."""
        return self.connected and self.gateway.state not in AWAY_STATES

    @property
    def certificate_problem(self) -> str:
        """Why this till has no certificate or cannot renew it just now; empty when all is well. Selling goes on."""
        if self._no_identity:
            return self._no_identity
        return self._trust.renewing.problem if self._trust.renewing is not None else ""

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Who answers for this store and is not it, as far as the gateway has not heard of it yet."""
        return self._trust.strangers

    # -- the link ------------------------------------------------------------------------------------------------------

    async def _stay_linked(self) -> None:
        """Find the gateway, keep the connection, and say goodbye at the end."""
        if self._no_identity:  # it must not speak plainly instead
            await self._closing.wait()
            return
        address: Address | None = None
        while not self._closing.is_set():
            if address is None:
                address = await self._trust.gateway(self.store, self.ledger)
            client = self._new_client(address)
            self._trust.trying(address)
            async with client:
                self._client = client
                useless = asyncio.create_task(self._trust.useless(client, address), name=f"till watch {self.lane}")
                closing = asyncio.create_task(self._closing.wait(), name=f"till closing {self.lane}")
                try:
                    await asyncio.wait([useless, closing], return_when=asyncio.FIRST_COMPLETED)
                    if self._closing.is_set() and client.connected:
                        await self._farewell(client)
                    elif useless.done():
                        address = useless.result()
                finally:
                    useless.cancel()
                    closing.cancel()
                    self._client = None
            if not self._closing.is_set():
                self._changed()

    def _new_client(self, address: Address) -> Client:
        client = Client(
            address,
            client_id=f"till-{self.lane}",
            username=self.lane,
            protocol=self._protocol,
            clean_start=False,
            session_expiry_s=60,
            will=Will(topics.lane_presence(self.lane), self._presence(online=False), qos=1, retain=True),
        )
        client.on_message(topics.lane_scans(self.lane), self._scan_came, qos=1)
        client.on_message(topics.lane_rejected(self.lane), self._rejection_came, qos=1)
        client.on_message(topics.lane_replies(self.lane), self._reply_came, qos=1)
        if self._on_weight is not None:
            client.on_message(topics.lane_weights(self.lane), self._weight_came, qos=0)
        client.on_message(topics.GATEWAY_STATUS, self._status_came, qos=1)
        client.on_message(topics.STORE_ANY, self._store_came, qos=1)
        client.on_connect.append(self._linked)
        client.on_disconnect.append(self._lost)
        return client

    def _lost(self, reason: Disconnected) -> None:
        self._trust.lost(reason)
        self._changed()

    def _linked(self, session_present: bool) -> None:
        client = self._client
        if client is not None:
            topic = topics.lane_presence(self.lane)
            client.publish_soon(topic, self._presence(online=True), qos=1, retain=True)
        self._changed()

    def _changed(self) -> None:
        """Tell the parts, and who asked for it, what can be reached now."""
        connected, online = self.connected, self.gateway_online
        self._outbox.state(connected=connected, away=self.gateway.state in AWAY_STATES)
        self._asking.state(reachable=online)
        if online != self._was_online:
            self._was_online = online
            self._trust.online(online)
            log.info("lane %s: the gateway is %s", self.lane, "here" if online else "away; selling on")
            if self._on_gateway is not None:
                self._on_gateway(online)

    def _presence(self, *, online: bool) -> bytes:
        presence = Presence(
            online=online, app=self._app, version=self._version, last_sequence=self.ledger.last_sequence
        )
        return presence.model_dump_json().encode()

    async def _farewell(self, client: Client) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S / 2):
                topic = topics.lane_presence(self.lane)
                await client.publish(topic, self._presence(online=False), qos=1, retain=True)
        except (TimeoutError, BusError) as error:
            log.warning("lane %s: could not say goodbye (%s); the last will does", self.lane, error)

    # -- messages in ---------------------------------------------------------------------------------------------------

    def _scan_came(self, message: Message) -> None:
        self._inbox.receive(message.payload)
        message.ack()

    def _rejection_came(self, message: Message) -> None:
        message.ack()
        rejection = self._inbox.receive_rejected(message.payload)
        if rejection is not None and self._on_rejected_scan is not None:
            self._on_rejected_scan(rejection)

    def _weight_came(self, message: Message) -> None:
        if self._on_weight is not None:
            self._on_weight(table_of(message))

    def _reply_came(self, message: Message) -> None:
        message.ack()
        table = table_of(message)
        to, problem = table.get("to"), table.get("problem")
        if not isinstance(to, str):
            if problem:
                log.error("lane %s: the gateway could not read a message: %s", self.lane, problem)
            return
        error = problem_of(problem) if table.get("ok") is not True else None
        result = table.get("result")
        if not self._outbox.on_reply(to, result, error):
            self._asking.on_reply(to, result, error)

    def _status_came(self, message: Message) -> None:
        message.ack()
        self.gateway = GatewayView.of(table_of(message))
        self._changed()

    def _store_came(self, message: Message) -> None:
        message.ack()
        if self._trust.renewing is not None and topics.last_level(message.topic) == "authority":
            self._trust.renewing.authority_came(message.payload)
        if self._on_store is not None:
            self._on_store(topics.last_level(message.topic), message.payload)

    # -- messages out --------------------------------------------------------------------------------------------------

    def _send_fact(self, body: bytes, done: Callable[[bool], None]) -> None:
        def taken(error: BusError | None) -> None:
            if error is not None:
                log.warning("lane %s: a fact was not sent, and will be sent again: %s", self.lane, error)
            done(error is None)

        client = self._client
        if client is None:
            done(False)
            return
        try:
            client.publish_soon(topics.lane_facts(self.lane), body, qos=1, on_done=taken)
        except BusError as error:
            taken(error)

    async def _send_request(self, operation: str, payload: bytes, expiry_s: float) -> bool:
        topic, client = topics.lane_request(self.lane, operation), self._client
        if client is None or not client.connected:
            return False
        try:
            async with asyncio.timeout(PUBLISH_S):
                await client.publish(topic, payload, qos=1, expiry_s=max(1, int(expiry_s) + 1))
        except TimeoutError:
            return False
        except BusError as error:
            log.warning("lane %s: not sent, will be sent again: %s", self.lane, error)
            return False
        return True

    def _raise_fault(self) -> None:
        """A till whose disk fails must not go on as if facts were kept: tell its program at the next fact."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error


def _without_identity(store: str | None, lane: str | None, ledger: Path, error: NoIdentity) -> tuple[str, str]:
    """Which lane of which store this is all the same; raises `error` when nobody knows."""
    of_store, of_lane = owner_of(ledger) or (None, None)
    store, lane = store or of_store, lane or of_lane
    if store is None or lane is None:
        raise error
    return store, lane


def _same(what: str, given: str | None, enrolled: str | None) -> str:
    """The store or lane, from whoever knows it; ValueError when nobody does, or two say different things."""
    if given is not None and enrolled is not None and given != enrolled:
        raise ValueError(f"this till has enrolled as {what} {enrolled!r}, not {given!r}")
    found = given or enrolled
    if found is None:
        raise ValueError(f"give the till its {what}, or an identity")
    return found
