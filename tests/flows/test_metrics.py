"""Metrics of real processes, scraped over HTTP and read by Prometheus's own parser; labels stay bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tty
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.gateway import Gateway, free_port, gateway, lanes_toml
from edge.bus import topics
from edge.metrics import CONTENT_TYPE, Metrics
from tests.flows.plain_till import PlainTill

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


async def http(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    try:
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionError:
        return b"", b""
    writer.close()
    return head, body


async def scrape(port: int) -> Series:
    """Every series; fails when the official parser does not take the text."""
    async with asyncio.timeout(30):
        while True:
            try:
                head, body = await http(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                if head:
                    break
            except OSError:
                pass  # it is not there yet
            await asyncio.sleep(0.05)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert f"Content-Type: {CONTENT_TYPE}".encode() in head
    assert f"Content-Length: {len(body)}".encode() in head
    return read(body.decode())


def read(text: str) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float:
    return series.get((name, frozenset(labels.items())), 0.0)


async def until(port: int, name: str, wanted: float, **labels: str) -> Series:
    async with asyncio.timeout(60):
        while value(series := await scrape(port), name, **labels) < wanted:
            await asyncio.sleep(0.1)
    return series


@pytest.fixture
def scanner() -> Iterator[tuple[int, str]]:
    """The far end of a serial scanner's line, and its path."""
    near, far = os.openpty()
    tty.setraw(near)
    tty.setraw(far)
    yield near, os.ttyname(far)
    os.close(near)
    os.close(far)


@pytest.fixture
async def measured(scanner: tuple[int, str]) -> AsyncIterator[Gateway]:
    device = (
        f'[[devices]]\nid = "scanner-1"\nprotocol = "serial-scanner"\nlanes = ["1"]\n'
        f'transport = {{ kind = "serial", path = "{scanner[1]}" }}\n'
    )
    ports = f"[metrics]\nedge_port = {free_port()}\nbridge_port = {free_port()}\n"
    cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {free_port()}\nprofile = "mosquitto"\n'
    async with gateway(lanes_toml(1) + device + ports + cloud, bridge=True) as at:
        yield at


@pytest.fixture
async def till(measured: Gateway) -> AsyncIterator[PlainTill]:
    one = PlainTill(measured.address, "1")
    async with one.client:
        await one.client.wait_connected()
        yield one


async def test_what_an_edge_counts(measured: Gateway, till: PlainTill, scanner: tuple[int, str]) -> None:
    port = measured.config.metrics.edge_port
    assert port is not None
    sales = [till.sale(sequence) for sequence in (1, 2, 3)]
    for sale in (*sales, sales[-1]):
        assert (await till.fact(sale))["ok"], "the last is a repeat"
    assert not (await till.fact(till.sale(4, type="acme.thing.v1")))["ok"]
    assert (await till.request("help", "r1"))["ok"]
    assert not (await till.request("print", "r2", document=[{"kind": "text", "text": "x"}]))["ok"]
    await until(port, "tillgate_device_state", 1, device="scanner-1", state="ready")
    os.write(scanner[0], b"4006381333931\r\n")
    series = await until(port, "tillgate_scans_total", 1, device="scanner-1")
    assert value(series, "tillgate_facts_accepted_total", **{"class": "transaction"}) == 4
    assert value(series, "tillgate_facts_refused_total", code="bad_message", lane="1") == 1
    assert value(series, "tillgate_requests_total", operation="help", outcome="ok") == 1
    assert value(series, "tillgate_requests_total", operation="print", outcome="not_found") == 1
    assert value(series, "tillgate_journal_commit_seconds_count") >= 3
    assert value(series, "tillgate_journal_bytes") > 4096
    assert value(series, "process_resident_memory_bytes") > 10_000_000
    series = await until(port, "tillgate_backlog_facts", 3, **{"class": "transaction"})
    assert value(series, "tillgate_journal_head", **{"class": "transaction"}) == 3
    bridge = measured.config.metrics.bridge_port
    assert bridge is not None
    series = await until(bridge, "tillgate_link_state", 1, state="cloud")
    assert value(series, "tillgate_link_state", state="online") == 0
    await until(bridge, "tillgate_uplink_backlog_facts", 3, **{"class": "transaction"})


async def test_nothing_that_comes_in_makes_a_new_series(
    measured: Gateway, till: PlainTill, scanner: tuple[int, str]
) -> None:
    port = measured.config.metrics.edge_port
    assert port is not None
    assert not (await till.fact(till.sale(9, type="x")))["ok"]
    assert not (await till.request("no.such.operation", "r0"))["ok"]
    await until(port, "tillgate_device_state", 1, device="scanner-1", state="ready")
    before = set(await scrape(port))
    for number in range(60):
        await till.request(f"made.up.{number}", f"r-{number}")
        await till.fact(till.sale(9, type=f'evil"\n}} 1\nmade_up_{number} 1'))
        await till.client.publish(topics.lane_facts("1"), b'{"id":"%d", rubbish' % number)
    await till.fact(till.sale(1))
    for number in range(60):
        os.write(scanner[0], f'x"{number}\\{{}}\r\n'.encode())
    after = await until(port, "tillgate_scans_total", 50, device="scanner-1")
    assert {name for name, _ in set(after) - before} == {"tillgate_facts_accepted_total", "tillgate_scans_total"}
    assert len(set(after) - before) == 2
    assert value(after, "tillgate_requests_total", operation="other", outcome="unknown_operation") == 61


async def test_only_a_scrape_is_answered(measured: Gateway) -> None:
    port = measured.config.metrics.edge_port
    assert port is not None
    await scrape(port)
    for request, status in (
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"rubbish\r\n\r\n", b"400"),
        (b"GET /metrics SPDY/9\r\n\r\n", b"400"),
        (b"\xff\xfe\0\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", None),
    ):
        head, _ = await http(port, request)
        assert (head.split(b" ")[1] if head else None) == status, request[:20]
    head, body = await http(port, b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]  # say nothing, and are thrown out
    for _, writer in idle:
        writer.close()
    assert await scrape(port)


def test_the_text_is_what_the_format_says() -> None:
    metrics = Metrics()
    count = metrics.counter(
        "a_total", 'What "it" is\nand \\ more', {"name": ('with "quotes"', "back\\slash", "line\nfeed")}
    )
    for name in ('with "quotes"', "back\\slash", "line\nfeed", "unheard of", "never seen"):
        count.inc(name)
    gauge = metrics.gauge("b_seconds", "A gauge")
    gauge.set(0.25)
    histogram = metrics.histogram("c_seconds", "A histogram", (0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 30.0):
        histogram.observe(seconds)
    series = read(metrics.text().decode())
    assert {dict(labels)["name"]: found for (name, labels), found in series.items() if name == "a_total"} == {
        'with "quotes"': 1, "back\\slash": 1, "line\nfeed": 1, "other": 2,
    }  # fmt: skip
    assert value(series, "b_seconds") == 0.25
    buckets = [value(series, "c_seconds_bucket", le=limit) for limit in ("0.1", "1", "+Inf")]
    assert buckets == [2, 3, 4]
    assert (value(series, "c_seconds_count"), value(series, "c_seconds_sum")) == (4, pytest.approx(30.65))
    gauge.set(None)
    assert ("b_seconds", frozenset()) not in read(metrics.text().decode())
    with pytest.raises(ValueError, match="labels"):
        count.inc()


def catalogue() -> dict[str, tuple[str, str, str]]:
    """Every metric of every process: name -> (process, kind, labels)."""
    import typing

    from cloud_bridge.metrics import BridgeMetrics, ReceiverMetrics
    from edge.config import Lane, Store, StoreConfig
    from edge.metrics_of_edge import EdgeMetrics

    anything = typing.cast("typing.Any", None)
    config = StoreConfig(file=Path("store.toml"), store=Store(id="s"), lanes=(Lane(id="1"),))
    processes = {
        "edge": EdgeMetrics(config).metrics,
        "bridge": BridgeMetrics(anything, anything, anything, anything).metrics,
        "HQ": ReceiverMetrics(anything, anything).metrics,
    }
    found: dict[str, tuple[str, str, str]] = {}
    for process, metrics in processes.items():
        for name, kind, labels, _ in metrics.catalogue():
            before = found.get(name)
            where = f"{before[0]}, {process}" if before else process
            found[name] = (where, kind, ", ".join(labels) or "-")
    return found


def test_the_documented_table_is_complete_and_names_are_in_order() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    documented = {name: (where, kind, labels) for name, where, kind, labels in rows}
    assert documented == catalogue()
    for name, (_, kind, _) in documented.items():
        assert name.endswith("_total") == (kind == "counter"), name
        assert name.startswith(("tillgate_", "process_"))
        assert not re.search(r"_(ms|mb|kb|minutes|millis)\b", name), "base units: seconds, bytes"
