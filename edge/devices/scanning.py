"""Scans on their way to the till: the hot path.

Strategy: everything happens inside the driver's own callback, in one go: normalise (`codes.read`), one dictionary,
one serialisation, one publish. No task, no queue, no model on the way; a test holds the dictionary against
`ScanMessage`. A scan expires after seconds, in the client's queue as in the broker's, because a late scan lands in
the next customer's basket: its counter is used up, so the till sees the hole, and `scan.recent` still tells it.

What is not delivered is heard too: a code that contradicts itself, one that was cut off or lost events on the way. It
is kept in quarantine, counted in the device's status, and told to the lane with a stable code and what to do.

The one exception is the first GS1 code since the start: its library is imported on a thread, and the lane's scans
wait for that in their order; those that waited longer than a scan may live are not delivered.

Source: design pages "The local bus" (scans) and "Devices" (normalise).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from drivers.events import Noise, Scan
from edge.bus import topics
from edge.bus.envelope import new_id
from edge.bus.errors import BusFull
from edge.bus.messages.replies import Code
from edge.bus.messages.requests import ScanRecent
from edge.bus.messages.scans import SCAN_EXPIRY_S
from edge.card_issuers import SURE_FROM
from edge.card_numbers import find, in_json, masked
from edge.config import Scanning as ScanningConfig
from edge.devices import codes, lane_cards, rejected
from edge.devices.attached import Attached
from edge.devices.registry import Quarantine, Registry
from edge.devices.variable_measure import COUNTRIES
from edge.money import minor_digits
from edge.services.requests import Asked, Handler
from edge.supervisor import Background

log = logging.getLogger(__name__)

RECENT_PER_LANE = 100
REJECTED = "scan.rejected"
REJECTIONS_PER_S = 5
"""A scanner that rattles is told to its lane no more often; a person does not scan as fast."""


class _Lane:
    """What is kept of a lane's scans, across the scanners that serve it."""

    __slots__ = ("counter", "recent", "topic")

    def __init__(self, lane: str) -> None:
        self.topic = topics.lane_scans(lane)
        self.counter = 0
        self.recent: deque[bytes] = deque(maxlen=RECENT_PER_LANE)


class Scanning:
    """Publishes every scan to the lane that its scanner serves: its home, or whoever has leased it. A lane card is
    obeyed and goes nowhere.

    `publish` is `Client.publish_soon`; `currency` is the store's (ISO 4217), in which embedded prices are.
    """

    def __init__(
        self,
        config: ScanningConfig,
        currency: str,
        registry: Registry,
        publish: Callable[..., None],
        quarantine: Quarantine,
        cards: lane_cards.LaneCards,
    ) -> None:
        self._measures = (*config.variable_measure, *(COUNTRIES[config.country] if config.country else ()))
        self._minor_digits = minor_digits(currency)
        self._registry = registry
        self._publish = publish
        self._quarantine = quarantine
        self._cards = cards
        self._background = Background()
        self._lanes: dict[str, _Lane] = {}
        self._library = False
        self._held: dict[str, list[tuple[Attached, Scan]]] = {}
        self._loading: asyncio.Task[None] | None = None
        self._told_s: dict[str, deque[float]] = {}
        registry.subscribe(Scan, self.scanned)
        registry.subscribe(Noise, self._discarded)

    def scanned(self, device: Attached, scan: Scan) -> None:
        """Take one code of `device`; called from its driver."""
        lane = device.serves
        if scan.text.startswith(lane_cards.PREFIX):
            self._background.start(self._card(device, lane, scan), f"lane card {device.id}")
        elif _is_card(scan):
            self._reject(device, lane, rejected.Rejected("card_number", "it holds a payment card's data"), scan)
        elif not self._library and (lane in self._held or codes.needs_library(scan.text, scan.aim)):
            self._hold(lane, device, scan)
        else:
            self._deliver(lane, device, scan)

    async def _card(self, device: Attached, lane: str, scan: Scan) -> None:
        try:
            await self._cards.take(device, scan.text)
        except rejected.Rejected as reason:
            self._reject(device, lane, reason, scan)

    def _hold(self, lane: str, device: Attached, scan: Scan) -> None:
        self._held.setdefault(lane, []).append((device, scan))
        if self._loading is None:
            self._loading = self._background.start(self._load(), "GS1 library")

    async def _load(self) -> None:
        """Import the library; where that fails, the next code that needs it tries again."""
        missing: rejected.Rejected | None = None
        try:
            await asyncio.to_thread(codes.load_library)
            self._library = True
        except (ImportError, OSError) as error:
            log.critical("GS1 codes cannot be read: %s", error)
            missing = rejected.Rejected("garbled", f"the library for GS1 codes cannot be loaded: {error}")
        self._loading = None
        held, self._held = self._held, {}
        for lane, scans in held.items():
            for device, scan in scans:
                if missing is not None and codes.needs_library(scan.text, scan.aim):
                    self._reject(device, lane, missing, scan)
                else:
                    self._deliver(lane, device, scan)

    def _deliver(self, lane: str, device: Attached, scan: Scan) -> None:
        try:
            reading = codes.read(scan.text, scan.aim, self._measures, self._minor_digits)
        except rejected.Rejected as reason:
            self._reject(device, lane, reason, scan)
            return
        heard = self._lanes.get(lane)
        if heard is None:
            heard = self._lanes[lane] = _Lane(lane)
        heard.counter += 1
        age_s = (time.monotonic_ns() - scan.captured_ns) / 1e9
        payload = orjson.dumps(
            {
                "scan_id": new_id(),
                "counter": heard.counter,
                "text": scan.text,
                "symbology": reading.symbology,
                "gtin": reading.gtin,
                "gs1": reading.gs1,
                "embedded": reading.embedded,
                "barcode": codes.SYMBOLOGIES.get(reading.symbology[1]) if reading.symbology else None,
                "add_on": reading.add_on,
                "captured_at": _utc(time.time() - age_s),
                "device": device.id,
            }
        )
        heard.recent.append(payload)
        if age_s > SCAN_EXPIRY_S:
            log.error("scan %d of lane %s is not delivered: it waited for %.1f s", heard.counter, lane, age_s)
            return
        try:
            self._publish(heard.topic, payload, qos=1, expiry_s=SCAN_EXPIRY_S)
        except BusFull as error:
            log.error("scan %d of lane %s is not delivered: %s", heard.counter, lane, error)

    def _reject(self, device: Attached, lane: str, reason: rejected.Rejected, scan: Scan) -> None:
        self._registry.count_garbled(device)
        said = masked(str(reason))
        # Of a card nothing is kept: what came over the line holds the number as bytes, as reports or as keys.
        raw = b"" if find(scan.text) else scan.raw
        code = Code.CARD_NUMBER_REFUSED if reason.code == "card_number" else REJECTED
        self._quarantine(device.id, lane, code, said, raw)
        self._tell(device, lane, reason.code, said)

    def _discarded(self, device: Attached, noise: Noise) -> None:
        """Something that never became a code; the registry keeps and counts it."""
        if device.category == "scanner":
            self._tell(device, device.serves, rejected.known(noise.code), noise.reason)

    def _tell(self, device: Attached, lane: str, code: str, reason: str) -> None:
        """Let the lane hear that something was scanned and is not delivered."""
        now_s = time.monotonic()
        told_s = self._told_s.setdefault(device.id, deque(maxlen=REJECTIONS_PER_S))
        if len(told_s) == REJECTIONS_PER_S and now_s - told_s[0] < 1.0:
            return
        told_s.append(now_s)
        payload = orjson.dumps(
            {
                "code": code,
                "reason": reason,
                "please": rejected.please(code),
                "captured_at": _utc(time.time()),
                "device": device.id,
            }
        )
        try:
            self._publish(topics.lane_rejected(lane), payload, qos=1, expiry_s=SCAN_EXPIRY_S)
        except BusFull as error:
            log.error("lane %s does not hear that a scan was rejected: %s", lane, error)

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of the scans."""
        return {"scan.recent": self._scan_recent}

    async def _scan_recent(self, asked: Asked, parameters: ScanRecent) -> dict[str, Any]:
        """The lane's last scans, newest first: ``{"scans": [ScanMessage, ...]}``."""
        heard = self._lanes.get(asked.lane)
        recent = list(heard.recent)[-parameters.limit :] if heard is not None else []
        return {"scans": [orjson.loads(payload) for payload in reversed(recent)]}


def _is_card(scan: Scan) -> bool:
    """Whether a card was swiped through the scanner, or its number scanned."""
    if len(scan.text) < SURE_FROM or codes.is_goods(scan.text, scan.aim):
        return False
    return in_json({"gtin": scan.text}) is not None


def _utc(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
