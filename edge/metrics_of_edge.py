"""What the edge process counts, and where it looks: at the replies, at its own facts, and at what devices say.

Strategy: nothing in the gateway knows of metrics. Every answer to a till passes `Replies`, every fact of the gateway's
own passes `Reporter`, and every event of a device passes the registry; counting stands in between, and only when it is
wanted. The rest is asked for at each scrape.
"""

from __future__ import annotations

import contextlib
import shutil
from asyncio import Future
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn, get_args

import orjson

from drivers.events import Scan, Weight
from edge import metrics_http
from edge.bus import topics
from edge.bus.client import Client, Message
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import FACTS, TYPE_OF, DrawerOpened, FactClass, PrintFinished
from edge.bus.messages.replies import Code
from edge.bus.messages.requests import OPERATIONS
from edge.bus.messages.statuses import GatewayStatus
from edge.config import StoreConfig
from edge.devices.print_ledger import State as JobState
from edge.devices.registry import Registry
from edge.journal.entries import Statement
from edge.journal.store import Store
from edge.metrics import Metrics
from edge.services.facts import Outcome, Reporter
from edge.services.replies import Publish, Replies
from edge.services.status import StatusBoard
from edge.supervisor import keep_running

LINKS = ("online", "lan", "wan", "cloud", "unknown")
STATES = ("unknown", "ready", "busy", "not_ready", "offline", "faulted")
JOBS = get_args(JobState)
SEEN = ("seen", "unknown")
GONE = ("evicted", "expired")
CLASSES = tuple(fact_class.value for fact_class in FactClass)
CODES = tuple(code.value for code in Code)


class EdgeMetrics:
    """The metrics of one edge process. Labels come from `config` and from code alone."""

    def __init__(self, config: StoreConfig) -> None:
        self.metrics = made = Metrics()
        self._at = config.metrics
        lanes = [lane.id for lane in config.lanes]
        devices = [device.id for device in config.devices]
        self.accepted = made.counter(
            "tillgate_facts_accepted_total", "Facts answered with accepted, repeats included", {"class": CLASSES}
        )
        self.refused = made.counter(
            "tillgate_facts_refused_total", "Facts of tills answered with a problem", {"code": CODES, "lane": lanes}
        )
        self.answered = made.counter(
            "tillgate_requests_total",
            "Requests of tills by their answer: ok or the problem's code",
            {"operation": OPERATIONS, "outcome": ("ok", *CODES)},
        )
        self.recorded = made.counter(
            "tillgate_gateway_facts_total", "Facts that the gateway itself reported", {"type": FACTS}
        )
        self.scans = made.counter("tillgate_scans_total", "Codes read by a scanner", {"device": devices})
        self.prints = made.counter(
            "tillgate_prints_total", "Print jobs by how they ended", {"device": devices, "state": JOBS}
        )
        self.weights = made.counter("tillgate_weights_total", "Weights that a scale has given", {"device": devices})
        self.openings = made.counter(
            "tillgate_drawer_openings_total", "Cash drawer openings", {"device": devices, "outcome": SEEN}
        )
        self.commit_s = made.histogram(
            "tillgate_journal_commit_seconds", "How long a group commit of the journal took, fsync included"
        )
        self._gauges(devices)

    def _gauges(self, devices: Sequence[str]) -> None:
        made, by_class = self.metrics, {"class": CLASSES}
        self._head = made.gauge("tillgate_journal_head", "The last sequence in the journal", by_class)
        self._confirmed = made.gauge("tillgate_journal_confirmed", "The highest sequence HQ has confirmed", by_class)
        self._backlog = made.gauge("tillgate_backlog_facts", "Facts accepted and not confirmed by HQ", by_class)
        self._oldest = made.gauge("tillgate_backlog_oldest_seconds", "Age of the oldest of them", by_class)
        self._lost = made.gauge(
            "tillgate_journal_lost_facts", "Facts that went before HQ had them", by_class | {"reason": GONE}
        )
        self._bytes = made.gauge("tillgate_journal_bytes", "Size of the journal's files")
        self._free = made.gauge("tillgate_disk_free_bytes", "Free space where the journal lies")
        self._unwritten = made.gauge("tillgate_journal_unwritten_facts", "Facts given to the journal, not yet on disk")
        self._gaps = made.gauge("tillgate_lane_missing_facts", "Facts missing from the lanes' own sequences")
        self._conflicts = made.gauge("tillgate_conflicting_facts", "Facts with the id or number of another")
        self._quarantined = made.gauge("tillgate_quarantined_messages", "Bad messages kept since the start")
        self._link = made.gauge(
            "tillgate_link_state", "1 for how the link to HQ is, 0 for the others", {"state": LINKS}
        )
        self._device = made.gauge(
            "tillgate_device_state", "1 for how the device is, 0 for the others", {"device": devices, "state": STATES}
        )
        self._garbled = made.counter(
            "tillgate_device_garbled_total", "Frames of a device that could not be read", {"device": devices}
        )
        self._waiting = made.gauge("tillgate_bus_waiting_messages", "Messages that the broker has not taken yet")

    # -- what stands in between ----------------------------------------------------------------------------------------

    def replies(self, publish: Publish) -> Replies:
        """`Replies` that are counted."""
        return _CountedReplies(publish, self)

    def reporter(self, store: Store, store_id: str) -> Reporter:
        """A `Reporter` whose facts are counted."""
        return _CountedReporter(store, store_id, self)

    def watch(self, store: Store, registry: Registry, status: StatusBoard, client: Client) -> None:
        """Count what devices say and commits take; look at the rest at each scrape."""
        store.on_written.append(self.commit_s.observe)
        registry.subscribe(Scan, lambda device, _: self.scans.inc(device.id))
        registry.subscribe(Weight, lambda device, _: self.weights.inc(device.id))

        def look() -> None:
            self._of_journal(store, client)
            if status.last is not None:
                self._of_status(status.last)
            for device in registry.all():
                for state in STATES:
                    self._device.set(float(device.state == state), device.id, state)
                self._garbled.set(device.garbled, device.id)

        self.metrics.before_scrape.append(look)

    async def serve(self) -> NoReturn:
        """Answer scrapes, until cancelled."""
        await keep_running(
            "metrics", partial(metrics_http.serve, self.metrics, self._at.host, self._at.edge_port),
            expected=(metrics_http.CannotServe,),
        )  # fmt: skip

    def _of_journal(self, store: Store, client: Client) -> None:
        files = [store.path, *(store.path.with_name(store.path.name + suffix) for suffix in ("-wal", "-shm"))]
        size = 0
        for file in files:
            with contextlib.suppress(OSError):
                size += file.stat().st_size
        self._bytes.set(size)
        with contextlib.suppress(OSError):
            self._free.set(shutil.disk_usage(store.path.parent).free)
        self._unwritten.set(store.unwritten)
        self._waiting.set(client.waiting)

    def _of_status(self, status: GatewayStatus) -> None:
        for name, entry in status.backlog.items():
            self._head.set(entry.head, name)
            self._confirmed.set(entry.confirmed, name)
            self._backlog.set(entry.facts, name)
            self._oldest.set(entry.oldest_s or 0, name)
            self._lost.set(entry.evicted, name, "evicted")
            self._lost.set(entry.expired, name, "expired")
        self._gaps.set(status.lane_gaps)
        self._conflicts.set(status.conflicts)
        self._quarantined.set(status.quarantined)
        for link in LINKS:
            self._link.set(float(status.link == link), link)


class _CountedReplies(Replies):
    """Looks into each answer as it leaves."""

    def __init__(self, publish: Publish, counts: EdgeMetrics) -> None:
        super().__init__(publish)
        self._counts = counts

    def send(self, message: Message, lane: str, payload: bytes) -> None:
        answer = orjson.loads(payload)
        code = answer["problem"]["code"] if not answer["ok"] else "ok"
        try:
            self._counts.answered.inc(topics.operation_of(message.topic), code)
        except ValueError:  # it was no request, so it was a fact
            if code == "ok":
                self._counts.accepted.inc(answer["result"]["class"])
            else:
                self._counts.refused.inc(code, lane)
        super().send(message, lane, payload)


class _CountedReporter(Reporter):
    """Looks at each fact of the gateway's own."""

    def __init__(self, store: Store, store_id: str, counts: EdgeMetrics) -> None:
        super().__init__(store, store_id)
        self._counts = counts

    def __call__(self, data: Recorded, *, also: Sequence[Statement] = ()) -> Future[Outcome]:
        counts: Any = self._counts
        counts.recorded.inc(TYPE_OF[type(data)])
        if isinstance(data, PrintFinished):
            counts.prints.inc(data.device, data.state)
        elif isinstance(data, DrawerOpened):
            counts.openings.inc(data.device, data.outcome)
        return super().__call__(data, also=also)
