"""The link to HQ, put together: what hears what, and what is told to whom. Built once, by the bridge process.

Strategy: the parts know nothing of each other. Whatever crosses from one to another is a line here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from cloud_bridge import policy
from cloud_bridge.believing import Believing
from cloud_bridge.certificate_days import CertificateDays
from cloud_bridge.cursors import Cursors
from cloud_bridge.downlink import RECEIVE_MAXIMUM, Downlink
from cloud_bridge.identity import Identity, folder_of
from cloud_bridge.link import Diagnosis
from cloud_bridge.meter import Meter
from cloud_bridge.outages import Outages
from cloud_bridge.outbox import Outbox
from cloud_bridge.pace import Budget
from cloud_bridge.profiles import ASIDE_BYTES, LINES, PROFILES, Profile, smallest
from cloud_bridge.report import Report
from cloud_bridge.salvaged import Salvaged
from cloud_bridge.store_status import StoreVoice
from cloud_bridge.tail import Tail
from cloud_bridge.uplink import Uplink
from edge import config_hq
from edge.bus import topics
from edge.bus.client import Address, Backoff, Client, Disconnected, Message, TlsFiles, Will
from edge.bus.messages.facts import Outage
from edge.bus.messages.links import Need, OutageRecorded
from edge.bus.messages.renewal import CERTIFICATE_LEVEL
from edge.bus.messages.statuses import GatewayStatus
from edge.config import StoreConfig
from edge.config_cloud import Cloud
from edge.journal.clock import Clock

HTTPS_PORT = 443
NEED_EXPIRY_S = 60
STATUS_EXPIRY_S = 60
OWN_SUBSCRIPTIONS = 2
"""Confirmations and the store's own downlink; each group is one more."""

Work = tuple[str, Callable[[], Awaitable[object]]]
"""A name and what is to be kept running under it."""


@dataclass(frozen=True, slots=True)
class HqLink:
    """`client` to be entered, `work` to be kept running, `goodbye`: what HQ is told at the end, on ``up/status``."""

    client: Client
    work: list[Work]
    goodbye: Callable[[], bytes]


class Unusable(Exception):
    """The configuration asks for something that cannot work; the text says what to change."""


def cloud_client(config: StoreConfig, cloud: Cloud, limits: Profile) -> Client:
    """The client of the cloud broker. Its session is always clean: HQ is asked for what was missed, not the broker."""
    try:
        password = cloud.password_file.read_text().strip() if cloud.password_file else None
    except OSError as error:
        raise Unusable(f"[cloud] password_file: {cloud.password_file} cannot be read: {error.strerror}") from None
    return Client(
        cloud_address(cloud, limits),
        client_id=config.store.id,
        username=cloud.username,
        password=password,
        protocol=5 if cloud.protocol == "5" else 4,
        clean_start=True,
        keepalive_s=limits.silent_s,
        told_keepalive_s=limits.keepalive_s,
        receive_maximum=RECEIVE_MAXIMUM,
        max_in_flight=limits.in_flight,
        max_packet_bytes=max(limits.packet_bytes, 512 * 1024),
        max_filters=limits.filters_per_subscribe,
        backoff=Backoff(limits.retry_from_s, limits.retry_to_s, limits.connect_gap_s),
    )


def cloud_address(cloud: Cloud, limits: Profile) -> Address:
    """Where the cloud broker is, and how it is spoken to. Port 443 serves other things too: ALPN says which."""
    websocket = cloud.path if cloud.transport == "websocket" else None
    tls = cloud.tls
    if tls is None:
        return Address(host=cloud.host, port=cloud.port, websocket=websocket)
    wanted = ("http/1.1" if websocket else limits.alpn) if cloud.port == HTTPS_PORT else None
    files = TlsFiles(
        ca=tls.ca,
        certificate=tls.certificate,
        key=tls.key,
        server_name=tls.server_name,
        alpn=wanted if tls.alpn is None else tls.alpn or None,
        pins=tls.pins,
    )
    return Address(host=cloud.host, port=cloud.port, tls=files, websocket=websocket)


def outbox_for(cloud: Cloud, limits: Profile) -> Outbox:
    """What may leave when, on this link."""
    line, own = LINES[cloud.link], cloud.budget
    bytes_per_s = smallest(limits.bytes_per_s, own.bytes_per_s or line.bytes_per_s)
    return Outbox(
        in_flight=limits.in_flight,
        in_flight_bytes=limits.in_flight_bytes and limits.in_flight_bytes - ASIDE_BYTES,
        packet_bytes=limits.packet_bytes,
        budget=Budget(
            limits.publishes_per_s,
            bytes_per_s,
            own.bytes_per_hour or line.bytes_per_hour,
            own.messages_per_hour or line.messages_per_hour,
        ),
        confirmed_by_broker=cloud.confirm == "broker",
        confirm_within_s=policy.CONFIRM_WITHIN_S,
        bulk_in_flight=policy.BULK_IN_FLIGHT if cloud.wire == "batch" else limits.in_flight,
    )


async def link_up(
    config: StoreConfig, cloud: Cloud, bus: Client, report: Report, stack: contextlib.AsyncExitStack
) -> HqLink:
    """Build the link to HQ; `stack` closes what it opened. Unusable when the configuration cannot work."""
    limits = PROFILES[cloud.profile]
    store = config.store.id
    subscriptions = len(cloud.groups) + OWN_SUBSCRIPTIONS
    if subscriptions > (limits.subscriptions or subscriptions):
        raise Unusable(
            f"[cloud] groups: {len(cloud.groups)} groups make {subscriptions} subscriptions; the profile"
            f" {limits.name!r} allows {limits.subscriptions}. Put this store into fewer groups"
        )
    client = cloud_client(config, cloud, limits)
    cursors = await Cursors.open(config.bridge_db)
    stack.push_async_callback(cursors.close)
    tail = Tail(config.store_db)
    stack.push_async_callback(tail.close)

    def forward(stream: str, payload: bytes) -> None:
        if bus.connected:  # else it is handed over again
            bus.publish_soon(topics.bridge_down(stream), payload)

    def ask(need: Need) -> None:
        if client.connected:
            payload = need.model_copy(update={"journal": uplink.epoch}).model_dump_json().encode()
            uplink.outbox.sent_besides(len(payload), asyncio.get_running_loop().time())
            client.publish_soon(topics.up_need(store), payload, expiry_s=NEED_EXPIRY_S)

    def tell_edge(outage: Outage) -> None:
        if bus.connected:  # else it is told again
            bus.publish_soon(topics.BRIDGE_OUTAGE, outage.model_dump_json().encode())

    def tell_hq(payload: bytes) -> None:
        if client.connected:
            topic = topics.up_status(store)
            uplink.outbox.sent_besides(len(topic) + len(payload), asyncio.get_running_loop().time())
            meter.other_bytes += len(topic) + len(payload)
            client.publish_soon(topic, payload, expiry_s=STATUS_EXPIRY_S)

    def changed() -> None:
        said = {"hq_not_believed": believing.trouble, "hq_certificate_refused": identity.warning}
        report.warnings = {code: text for code, text in said.items() if text}
        outages.journal(uplink.epoch, uplink.outbox.heads, uplink.outbox.confirmed)
        if client.connected:
            say_link()
        report.changed()

    def say_link() -> None:
        """A connection on which nothing gets through is no link, whatever it says of itself."""
        if stuck := uplink.hindrance.stuck:
            report.say("cloud", stuck)
        elif believing.trouble:
            report.say("online", believing.trouble)
        elif client.refused:
            names = ", ".join(f"{one.topic_filter} ({one.reason})" for one in client.refused)
            report.say("online", f"the cloud broker does not let us read {names}: nothing of HQ's comes down there")
        else:
            report.say("online")

    meter = Meter(client.publish_soon)
    outages = Outages(cursors.db, Clock(), tell_edge, report.changed)
    await outages.open()
    stack.push_async_callback(outages.save)
    downlink = Downlink(store=store, groups=cloud.groups, cursors=cursors, forward=forward, ask=ask)
    await downlink.load()
    uplink = Uplink(
        store=store,
        tail=tail,
        cursors=cursors,
        outbox=outbox_for(cloud, limits),
        publish=meter.publish,
        ask=downlink.ask_what_is_confirmed,
        on_change=changed,
        give_up=client.give_up,
        wire=cloud.wire,
    )
    believing = Believing(
        store=store,
        main_keys=lambda: config_hq.keys_in_force(config.from_hq.price_key, config.state_dir),
        proof=cloud.confirm_proof,
        cursors=cursors,
        ask=downlink.ask_what_is_confirmed,
        wall_now=lambda: datetime.now(UTC),
        on_change=lambda: changed(),  # noqa: PLW0108 (defined further down)
    )
    await believing.load()
    salvaged = Salvaged(
        store=store,
        tail=tail,
        cursors=cursors,
        outbox=uplink.outbox,
        publish=meter.publish,
        confirm=cloud.confirm,
        wire=cloud.wire,
    )
    left, away_s = await cursors.budget()
    uplink.outbox.budget.resume(left, away_s, asyncio.get_running_loop().time())
    stack.push_async_callback(uplink.save_now)
    report.uplink, report.cursors, report.outages, report.sent = uplink, cursors, outages, meter.sent

    def another_identity() -> None:
        if (files := identity.files) is not None:
            client.address = replace(client.address, tls=files)

    identity = Identity(
        folder_of(config.state_dir),
        store,
        client.address.tls,
        publish=lambda payload: client.publish_soon(topics.up_certificate(store), payload, expiry_s=NEED_EXPIRY_S),
        reconnect=client.give_up,
        changed=another_identity,
    )
    identity.choose()
    another_identity()

    def own_certificate() -> Path | None:
        return identity.files.certificate if identity.files is not None else None

    certificates = CertificateDays(own_certificate, Clock(), report.changed)
    report.certificates = certificates
    voice = StoreVoice(uplink, report, outages, [device.id for device in config.devices], tell_hq)

    def on_gateway(message: Message) -> None:
        with contextlib.suppress(ValidationError):  # the downlink looks at it again, and says so
            status = GatewayStatus.model_validate_json(message.payload)
            if status.epoch:
                outages.shed({name: entry.evicted + entry.expired for name, entry in status.backlog.items()})
            voice.hear_gateway(status)
        downlink.on_gateway_status(message)

    def on_outage_recorded(message: Message) -> None:
        with contextlib.suppress(ValidationError):
            outages.on_recorded(OutageRecorded.model_validate_json(message.payload).id)
        message.ack()

    bus.on_message(topics.JOURNAL_HEADS, uplink.on_heads)
    bus.on_message(topics.BRIDGE_COMMITTED, downlink.on_committed)
    bus.on_message(topics.GATEWAY_STATUS, on_gateway)
    bus.on_message(topics.DEVICES_STATUS_ANY, voice.on_device)
    bus.on_message(topics.BRIDGE_OUTAGE_RECORDED, on_outage_recorded)
    bus.on_connect.append(lambda _: outages.report_again())

    def on_confirmed(message: Message) -> None:
        told = believing.believed(message, "confirmed")
        if told is not None and not salvaged.hears(told):
            uplink.on_confirmed(told)

    def on_down(message: Message) -> None:
        if topics.last_level(message.topic) == topics.OFFER_LEVEL:
            told = believing.believed(message, "offer")
            if told is None:
                return
            message = told
        elif topics.last_level(message.topic) == CERTIFICATE_LEVEL:
            identity.on_answer(message)
            changed()
            return
        downlink.on_down(message)

    client.on_message(topics.confirmed(store), meter.hears(on_confirmed))
    client.on_message(topics.down_any(store), meter.hears(on_down))
    for name in cloud.groups:
        client.on_message(topics.group_down_any(name), meter.hears(downlink.on_down))

    diagnosis = Diagnosis(cloud.host, cloud.probes)
    losses: asyncio.Queue[Disconnected] = asyncio.Queue()

    def connected(_: bool) -> None:
        said = client.server_limits
        identity.connected()
        certificates.connected(client.server_certificate_ends_s)
        uplink.on_connected(said.receive_maximum, said.max_packet_bytes)
        salvaged.on_connected()
        downlink.ask_now()
        changed()
        voice.connected()
        client.leave_will(Will(topics.up_status(store), voice.will(), retain=False))

    def disconnected(reason: Disconnected) -> None:
        identity.lost(reason.cause)
        uplink.on_lost(reason)
        salvaged.on_lost()
        voice.lost()
        changed()  # so that what is journalled from now on counts as kept
        outages.link("unknown", str(reason))
        losses.put_nowait(reason)

    async def diagnose() -> None:
        while True:
            reason = await losses.get()
            verdict = await diagnosis.judge(reason.cause, reason.detail)
            if not client.connected and losses.empty():
                report.say(verdict.link, verdict.detail)

    client.leave_will(Will(topics.up_status(store), voice.will(), retain=False))

    def granted() -> None:
        downlink.ask_now()  # HQ's answers so far met nobody
        changed()

    client.on_connect.append(connected)
    client.on_granted.append(granted)
    client.on_disconnect.append(disconnected)
    report.say("unknown", f"connecting to {client.address}")
    work: list[Work] = [
        ("uplink", uplink.run),
        ("salvaged facts", salvaged.run),
        ("cursors", uplink.save),
        ("downlink", downlink.run),
        ("diagnosis", diagnose),
        ("outages", outages.run),
        ("certificate days", certificates.run),
        ("certificate renewal", identity.run),
        ("word to HQ", voice.run),
    ]
    if config.metrics.bridge_port is not None:
        from cloud_bridge.metrics import BridgeMetrics

        counts = BridgeMetrics(uplink, report, meter, client)
        work.append(("metrics", partial(counts.serve, config.metrics.host, config.metrics.bridge_port)))
    return HqLink(client, work, voice.goodbye)
