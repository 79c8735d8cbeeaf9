"""The edge process: its composition root. Start-up reads as a list; one TaskGroup owns everything that runs.

Order matters twice: the journal is open before a till can reach us, and the drivers start before the slow things
(mDNS, receipt encoder), so that the first scan of the day is not late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edge import __version__
from edge.access import configured, key_desk
from edge.access.admission import ADMISSION_SCHEMAS, Admission
from edge.access.at_box import AtBox
from edge.access.at_lanes import AtLanes
from edge.access.audit import Audit
from edge.access.authority_care import AuthorityCare, Hands
from edge.access.authority_desk import AuthorityDesk
from edge.access.broker_identity import opened_authority
from edge.access.configured import CONFIGURED_SCHEMAS
from edge.access.gate import Gate
from edge.access.lane_links import LaneLinks, Takers
from edge.access.master_keys import MasterKeys
from edge.access.people import PEOPLE_SCHEMA, People
from edge.access.people_desk import PeopleDesk
from edge.access.privacy import Privacy
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Will
from edge.bus.errors import BusError
from edge.bus.messages.commands import COMMANDS_STREAM, Command, Refusal
from edge.bus.messages.configuration import CONFIGURATION_STREAM, KEYS_STREAM
from edge.bus.messages.facts import (
    AuditAction,
    CommandFinished,
    FactClass,
    GatewayStarted,
)
from edge.bus.messages.notices import NOTICES_STREAM
from edge.bus.messages.prices import PRICES_STREAM
from edge.bus.messages.replies import Code
from edge.bus.terms import NEARBY
from edge.config import StoreConfig
from edge.devices.attending import Attending
from edge.devices.calibrating import Calibrating
from edge.devices.cash_drawers import DRAWERS_SCHEMAS, CashDrawers
from edge.devices.claiming import Claiming
from edge.devices.displays import Displays
from edge.devices.lane_cards import LANE_CARDS_SCHEMA, LaneCards
from edge.devices.leases import LEASES_SCHEMA, Leases
from edge.devices.places import PLACES_SCHEMA, Places
from edge.devices.print_ledger import PLACE as PRINTED
from edge.devices.printing import PRINTING_SCHEMAS, Printing
from edge.devices.registry import Registry
from edge.devices.scanning import Scanning
from edge.devices.watching import Watching
from edge.devices.weighing import Weighing
from edge.journal import lifetime
from edge.journal.clock import Clock, ClockTrust
from edge.journal.opening import StoreBusy, WrongStore
from edge.journal.store import NotStored, Store
from edge.opened import opened
from edge.seal import Seal
from edge.services.command_operations import hq_commands
from edge.services.commands import COMMANDS_SCHEMA, Commands
from edge.services.configuring import Configuring
from edge.services.facts import FactIntake, Reporter
from edge.services.from_hq import Believed, FromHq
from edge.services.limits import LaneBudget
from edge.services.notices import NOTICES_SCHEMA, Notices
from edge.services.outages import OutageDesk
from edge.services.presence import Presences
from edge.services.price_staging import PRICES_SCHEMA
from edge.services.prices import Prices
from edge.services.quarantine import Quarantine
from edge.services.replies import Replies
from edge.services.requests import ANSWERS, REQUESTS_SCHEMAS, Router, forget_old_answers
from edge.services.status import StatusBoard, stopped
from edge.services.technician import TechnicianDesk
from edge.services.warnings import Warnings
from edge.startup import complain, loaded, start_logging
from edge.supervisor import caught, keep_running

if TYPE_CHECKING:
    from edge.metrics_of_edge import EdgeMetrics

log = logging.getLogger("edge")

BEGIN_ANEW = 75
"""Exit status: start this process again (EX_TEMPFAIL of sysexits.h)."""

DATE_EVERY_S = 5.0
TRIM_EVERY_S = float(lifetime.TICK_S)
CLIENT_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS bus_client (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;"
)

SCHEMAS = (
    *REQUESTS_SCHEMAS,
    *PRINTING_SCHEMAS,
    *DRAWERS_SCHEMAS,
    ("leases-1", LEASES_SCHEMA),
    ("places-1", PLACES_SCHEMA),
    ("lane-cards-1", LANE_CARDS_SCHEMA),
    ("prices-1", PRICES_SCHEMA),
    ("commands-1", COMMANDS_SCHEMA),
    ("notices-1", NOTICES_SCHEMA),
    ("bus-client-1", CLIENT_SCHEMA),
    *ADMISSION_SCHEMAS,
    ("people-1", PEOPLE_SCHEMA),
    *CONFIGURED_SCHEMAS,
)
"""The steps that bring a store's tables up to date, each carried out once, by its name; a step never changes."""


SEALED = (PRINTED, ANSWERS)
"""What is sealed in ``store.db`` beside the journal and the quarantine."""


async def serve(config: StoreConfig, stop: asyncio.Event) -> int:
    """Run the gateway's edge until `stop` is set, or until a failed disk works again; returns the exit status.

    Raises StoreBusy and WrongStore; everything else it survives.
    """
    clock = Clock()
    store = await opened(config, SCHEMAS, clock, stop)
    if store is None:
        return 0
    try:
        await _serve(config, store, clock, stop)
    finally:
        await store.close()
    return BEGIN_ANEW if store.well_again.is_set() else 0


async def _serve(config: StoreConfig, store: Store, clock: Clock, stop: asyncio.Event) -> None:
    client = Client(
        Address(socket=config.broker_socket),
        client_id=await _client_id(store),
        will=Will(topics.GATEWAY_STATUS, stopped(), retain=True),
        backoff=NEARBY,
    )
    publish = client.publish_soon
    lanes = frozenset(lane.id for lane in config.lanes)
    limits = config.limits

    counts: EdgeMetrics | None = None
    if config.metrics.edge_port is not None:
        from edge.metrics_of_edge import EdgeMetrics

        counts = EdgeMetrics(config)
    report = counts.reporter(store, config.store.id) if counts else Reporter(store, config.store.id)
    audit = Audit(report)
    quarantine = Quarantine(store)
    quarantine.on_kept.append(partial(_audited, audit))
    replies = counts.replies(publish) if counts else Replies(publish)
    budget = LaneBudget(limits.messages_per_s, limits.burst)
    warnings = Warnings()
    gate = Gate(client.address, lanes, publish, audit, warnings)
    intake = FactIntake(
        store,
        config.store.id,
        lanes,
        replies,
        quarantine,
        budget,
        message_bytes=limits.message_bytes,
        lets=gate.lets,
    )
    router = Router(
        store,
        lanes,
        replies,
        quarantine,
        budget,
        message_bytes=limits.message_bytes,
        in_flight=limits.requests_in_flight,
        lets=gate.lets,
    )
    leases, places = Leases(store, clock, report), Places(store)
    await leases.open()
    await places.open()
    registry = Registry(config.devices, publish, report, quarantine.keep, leases, places)
    claiming = Claiming(registry, leases)
    cards = LaneCards(config.store.id, lanes, registry, store, report)
    scanning = Scanning(config.scanning, config.store.currency, registry, publish, quarantine.keep, cards)
    weighing = Weighing(registry)
    watching = Watching(registry, publish, weighing.turn)
    presences = Presences(publish, quarantine)
    presences.watchers += [leases.present, watching.presence]
    links = LaneLinks(
        client.address,
        client.client_id,
        lanes,
        Takers(intake.on_message, router.on_message, presences.on_message),
        budget,
        rate_per_s=limits.messages_per_s,
        on_flood=gate.dropped,
        clear=gate.clear,
    )
    printing = Printing(registry, store, report, clock)
    displays = Displays(registry, config.store.currency)
    drawers = CashDrawers(registry, store, report, clock)
    price_key, groups = (config.cloud.price_key, config.cloud.groups) if config.cloud else ((), ())
    believed = Believed(price_key, config.store.id, groups)
    prices = Prices(store, config.store.zone, believed, publish, report)
    commands = Commands(store, clock, believed, report)
    commands.on_end.append(partial(_audited_command, audit))
    notices = Notices(store, clock, believed, publish)
    configuring = Configuring(config, believed, audit, warnings)
    configuring.on_change.append(lambda now: budget.change(now.limits.messages_per_s, now.limits.burst))
    from_hq = FromHq(publish, quarantine)
    for stream, take in (
        (PRICES_STREAM, prices.take),
        (COMMANDS_STREAM, commands.take),
        (NOTICES_STREAM, notices.take),
        (CONFIGURATION_STREAM, configuring.take),
        (KEYS_STREAM, configuring.take_keys),
    ):
        from_hq.serve(stream, take)
    status = StatusBoard(
        store,
        publish,
        clock,
        price_version=lambda: prices.active,
        quarantined=lambda: quarantine.count,
        full=lambda: intake.full,
        busy=lambda: router.busy or printing.busy or commands.busy,
        warnings=warnings,
        heard=lambda: links.heard,
        configuration=lambda: configuring.version,
    )
    configuring.on_change.append(lambda _: status.changed())
    links.on_change.append(status.changed)
    warnings.on_change.append(status.changed)
    master_keys = MasterKeys(store, warnings, SEALED, audit)
    people = People(store, Seal(store.keyring, "people"), audit, clock, names=_names(config))
    at_lanes = AtLanes(people, audit, config.people.overrides, warnings)
    authority = await opened_authority(config)
    hands = Hands(cut=gate.cut_soon, shut=gate.shut)
    authority_care = AuthorityCare(authority, config, publish, clock, warnings, audit, hands)
    admission = Admission(config, store, clock, authority_care, report, audit, warnings)
    presences.watchers.append(admission.seen)
    fingerprint = authority.book.current.fingerprint if authority.book else None
    for what, opening in (
        ("enrolment", admission.open()),
        ("people", people.open()),
        ("the configuration's history", configured.note(store, audit, config)),
        ("the authority's history", configured.note_trust(store, audit, fingerprint)),
    ):
        await caught(f"opening {what}", opening)  # whatever is wrong with it, tills sell
    at_lanes.look()
    await cards.open()
    await printing.open()
    await drawers.open()
    await prices.load()
    served = (
        claiming,
        scanning,
        weighing,
        watching,
        printing,
        drawers,
        displays,
        prices,
        at_lanes,
        authority_care,
        admission,
    )
    for part in served:
        router.serve(part.operations())
    router.guard(at_lanes.guards())
    for part in (printing, drawers):
        router.recover(part.recoveries())
    desk = TechnicianDesk(publish, AtBox(people, audit).permit)
    attending = Attending(registry, router.handlers)
    desk.serve(attending.services())
    desk.serve(PeopleDesk(people, config.store.id, at_lanes.look).services())
    desk.serve(Calibrating(drawers, clock).services())
    desk.serve(AuthorityDesk(authority_care).services())
    desk.serve(key_desk.services())
    desk.serve(admission.services())
    privacy = Privacy(store, audit, printing.forget)
    desk.serve(privacy.services())
    commands.serve(hq_commands(store.path, status.now, registry.statuses, attending.services()))
    commands.serve({"privacy.erase": privacy.erase_for_hq})
    await commands.load()
    store.on_commit.append(status.on_commit)
    store.on_fault.append(status.changed)
    intake.on_full.append(status.changed)

    client.on_message(topics.TECHNICIAN_REQUESTS_ANY, desk.on_message)
    client.on_message(topics.BRIDGE_STATUS, status.on_bridge)
    client.on_message(topics.BRIDGE_OUTAGE, OutageDesk(store, config.store.id, publish).on_message)
    client.on_message(topics.BRIDGE_DOWN_ANY, from_hq.on_down)

    def connected(session_present: bool) -> None:
        # The broker may have lost what it had retained; everything that is retained is said again.
        status.publish_heads()
        gate.sweep()
        prices.announce()
        notices.announce()
        authority_care.announce()
        registry.publish_all()
        status.changed()
        log.info("serving lanes %s (%s)", ", ".join(sorted(lanes)), "resumed" if session_present else "new session")

    client.on_connect.append(connected)
    client.on_disconnect.append(lambda _: links.lost())

    async with client, links, asyncio.TaskGroup() as group:
        running = [
            group.create_task(registry.run(), name="devices"),
            group.create_task(printing.run(), name="printing"),
            group.create_task(keep_running("live weights", watching.run), name="live weights"),
            group.create_task(keep_running("cash drawers", drawers.run), name="cash drawers"),
            group.create_task(keep_running("displays", displays.run), name="displays"),
            group.create_task(keep_running("prices", prices.run, expected=(NotStored,)), name="prices"),
            group.create_task(keep_running("commands", commands.run, expected=(NotStored,)), name="commands"),
            group.create_task(keep_running("notices", notices.run, expected=(NotStored,)), name="notices"),
            group.create_task(keep_running("status", status.run), name="status"),
            group.create_task(keep_running("store authority", authority_care.run), name="store authority"),
            group.create_task(keep_running("gate", gate.run, expected=(BusError,)), name="gate"),
            group.create_task(
                keep_running("sealing anew", master_keys.run, expected=(NotStored,)), name="sealing anew"
            ),
            group.create_task(
                keep_running(
                    "journal trimming", partial(_trim, configuring, store, status, clock), expected=(NotStored,)
                ),
                name="trimming",
            ),
        ]
        if counts is not None:
            counts.watch(store, registry, status, client)
            running.append(group.create_task(counts.serve(), name="metrics"))
        running.append(
            group.create_task(
                keep_running("dating", partial(_date, store, clock), expected=(NotStored,)), name="dating"
            )
        )
        running.append(group.create_task(admission.run(), name="admission"))
        report(GatewayStarted(version=__version__, epoch=store.epoch, boot=clock.now().boot))
        await _either(stop, store.well_again)
        await router.stop()
        await desk.stop()
        await from_hq.stop()
        await commands.stop()
        status.stop()
        await people.close()
        audit.tell()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                publish(topics.GATEWAY_STATUS, stopped(), qos=1, retain=True)
                await client.drain()


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _audited(audit: Audit, origin: str, lane: str | None, code: str, reason: str) -> None:
    """Of what is refused, the audit hears of card data (the reason holds none) and of what is not HQ's word."""
    if code == Code.CARD_NUMBER_REFUSED:
        audit.record(AuditAction.CARD_NUMBER_REFUSED, "refused", lane=lane, subject=origin, detail=reason)
    elif origin in _HQS_WORD and code in _NOT_HQS:
        audit.record(AuditAction.HQ_NOT_BELIEVED, "refused", subject=_HQS_WORD[origin], detail=f"{code}: {reason}")


_HQS_WORD = {topics.bridge_down(stream): stream for stream in (PRICES_STREAM, COMMANDS_STREAM, NOTICES_STREAM)}
_NOT_HQS = frozenset({Refusal.BAD_SIGNATURE, Refusal.NO_KEY, Code.NOT_YOURS, Code.BAD_MESSAGE})


def _audited_command(audit: Audit, command: Command, answer: CommandFinished) -> None:
    """HQ's command, and what became of it."""
    audit.record(
        AuditAction.COMMAND_FROM_HQ,
        "done" if answer.ok else "failed",
        person=f"hq:{command.by}",
        subject=command.operation,
        detail=command.id if answer.problem is None else f"{command.id}: {answer.problem.code}",
    )


def _names(config: StoreConfig) -> list[str]:
    """What everybody in the store knows, and no password may be."""
    return ["tillgate", config.store.id, *config.store.name.split()]


async def _client_id(store: Store) -> str:
    """This gateway's name on its own broker, made once and told to nobody: a till that knew it could take its place."""
    row = await store.fetch_one("SELECT id FROM bus_client")
    if row is not None:
        return str(row[0])
    made = f"edge-{secrets.token_hex(12)}"
    await store.write([("INSERT INTO bus_client(one, id) VALUES (1, ?)", (made,))])
    return made


async def _trim(configuring: Configuring, store: Store, status: StatusBoard, clock: Clock) -> NoReturn:
    """Once an hour: what HQ has confirmed and is older than its retention goes; so do old remembered answers."""
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        retention_ms = dict.fromkeys(FactClass, configuring.now.journal.retention_days * 24 * 3600 * 1000)
        store.note_confirmed(status.confirmed)
        await store.trim(status.confirmed, retention_ms)
        await store.write([lifetime.tick(clock.now()), forget_old_answers()], urgent=False)


async def _date(store: Store, clock: Clock) -> NoReturn:
    """A clock that comes to be trusted dates what is in the journal, also while nobody adds to it."""
    while True:
        if not store.dated and clock.now().trust is ClockTrust.SYNCED:
            await store.write(())
        await asyncio.sleep(DATE_EVERY_S)


def main(arguments: list[str] | None = None) -> int:
    """The edge process: ``python -m edge.daemon --config FILE``.

    Exit status 2: the configuration cannot be used; 75: begin anew, a disk that had failed works again.
    """
    parser = argparse.ArgumentParser(
        prog="python -m edge.daemon", description="The edge process of a Tillgate gateway."
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the store.toml")
    chosen = parser.parse_args(arguments)
    config = loaded(chosen.config)
    if config is None:
        return 2
    start_logging()
    try:
        return asyncio.run(_until_told(config))
    except (StoreBusy, WrongStore) as error:
        return complain(str(error))


async def _until_told(config: StoreConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await serve(config, stop)


if __name__ == "__main__":
    sys.exit(main())
