"""What the bridge and HQ's receiver show to Prometheus: kept by others, looked at when somebody scrapes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NoReturn, get_args

from edge import metrics_http
from edge.bus.client import Client
from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import Link
from edge.metrics import Metrics
from edge.supervisor import keep_running

if TYPE_CHECKING:
    from cloud_bridge.hq.receiver import Receiver
    from cloud_bridge.meter import Meter
    from cloud_bridge.report import Report
    from cloud_bridge.uplink import Uplink

CLASSES = tuple(fact_class.value for fact_class in FactClass)
LINKS = get_args(Link)


class BridgeMetrics:
    """The metrics of one bridge process."""

    def __init__(self, uplink: Uplink, report: Report, meter: Meter, client: Client) -> None:
        self.metrics = made = Metrics()
        self._uplink, self._report, self._meter, self._client = uplink, report, meter, client
        by_class = {"class": CLASSES}
        self._link = made.gauge("tillgate_link_state", "1 for how the link is, 0 for the others", {"state": LINKS})
        self._connections = made.counter("tillgate_link_connections_total", "Connections made to the cloud broker")
        self._batches = made.counter("tillgate_uplink_batches_total", "Batches sent, again included", by_class)
        self._failed = made.counter("tillgate_uplink_failed_total", "Batches the broker did not take", by_class)
        self._bytes = made.counter("tillgate_uplink_bytes_total", "Bytes of batches: topic and payload", by_class)
        self._other = made.counter("tillgate_uplink_other_bytes_total", "Bytes sent that carry no facts")
        self._facts = made.counter("tillgate_uplink_facts_total", "Facts sent, again included", by_class)
        self._resent = made.counter("tillgate_uplink_resent_facts_total", "Facts that were sent again", by_class)
        self._received = made.counter("tillgate_downlink_bytes_total", "Bytes received: topic and payload")
        self._head = made.gauge("tillgate_uplink_head", "The last sequence in the journal", by_class)
        self._confirmed = made.gauge("tillgate_uplink_confirmed", "The highest sequence HQ has confirmed", by_class)
        self._backlog = made.gauge("tillgate_uplink_backlog_facts", "Facts HQ has not confirmed", by_class)
        self._eta = made.gauge("tillgate_uplink_eta_seconds", "Time until HQ has them; absent: not known", by_class)
        self._parked = made.gauge("tillgate_uplink_parked_facts", "Facts that HQ will never take")
        self._budget = made.gauge("tillgate_line_budget_bytes", "Left of the line's budget; below 0: in debt")
        self._wait = made.gauge("tillgate_line_budget_wait_seconds", "How long all but critical facts wait for it")
        self._days = made.gauge(
            "tillgate_cloud_certificate_days", "Days until it ends; absent: there is none", {"whose": ("own", "broker")}
        )
        self._waiting = made.gauge("tillgate_uplink_waiting_messages", "Messages the broker has not acknowledged")
        made.before_scrape.append(self._look)

    def _look(self) -> None:
        outbox, now = self._uplink.outbox, asyncio.get_running_loop().time()
        for fact_class, track in outbox.tracks.items():
            sent, name = self._meter.sent[fact_class], fact_class.value
            self._batches.set(sent.batches, name)
            self._failed.set(sent.failed, name)
            self._bytes.set(sent.bytes, name)
            self._facts.set(sent.facts, name)
            self._resent.set(sent.resent_facts, name)
            self._head.set(track.head, name)
            self._confirmed.set(track.confirmed, name)
            self._backlog.set(max(0, track.head - track.confirmed), name)
        self._other.set(self._meter.other_bytes)
        self._received.set(self._meter.received_bytes)
        self._connections.set(self._client.counters.connections)
        self._waiting.set(self._client.waiting)
        self._budget.set(outbox.budget_left_bytes(now))
        self._wait.set(outbox.budget_wait_s(now))
        if (days := self._report.certificates) is not None:
            self._days.set(days.own_days, "own")
            self._days.set(days.broker_days, "broker")
        said = self._report.last
        for link in LINKS:
            self._link.set(float(said is not None and said.link == link), link)
        if said is not None:
            self._parked.set(said.parked)
            for name in CLASSES:
                self._eta.set(said.eta_by_class_s.get(FactClass(name)), name)

    async def serve(self, host: str, port: int) -> NoReturn:
        """Answer scrapes, until cancelled."""
        await _serve(self.metrics, host, port)


class ReceiverMetrics:
    """The metrics of one receiver of HQ's."""

    def __init__(self, receiver: Receiver, client: Client) -> None:
        self.metrics = made = Metrics()
        self._receiver, self._client = receiver, client
        self._recorded = made.counter("tillgate_hq_messages_total", "Messages recorded and acknowledged")
        self._waiting = made.gauge("tillgate_hq_waiting_messages", "Messages received, not yet in the database")
        self._connections = made.counter("tillgate_hq_connections_total", "Connections made to the cloud broker")
        made.before_scrape.append(self._look)

    def _look(self) -> None:
        self._recorded.set(self._receiver.recorded)
        self._waiting.set(self._receiver.waiting)
        self._connections.set(self._client.counters.connections)

    async def serve(self, host: str, port: int) -> NoReturn:
        """Answer scrapes, until cancelled."""
        await _serve(self.metrics, host, port)


async def _serve(metrics: Metrics, host: str, port: int) -> NoReturn:
    serving = partial(metrics_http.serve, metrics, host, port)
    await keep_running("metrics", serving, expected=(metrics_http.CannotServe,))
