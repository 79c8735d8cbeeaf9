"""Counters, gauges and histograms in Prometheus's text format, version 0.0.4.

Strategy: every metric declares the closed set of values that each of its labels may have, taken from code and
configuration. A value that is not among them is counted under ``other``: nothing that comes in a message can make a new
time series. What is known anyway (a backlog, a file's size) is not counted again but asked for when somebody scrapes:
`Metrics.before_scrape`. Nothing here is imported unless ``[metrics]`` names a port.

Source: Prometheus documentation, "Exposition formats" (text-based format), "Metric and label naming"; the names of
``process_*`` are those of "Writing client libraries", "Process metrics". A library would cost 4.3 MB and 60 ms in each
process; the format is a page.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

Labels = Mapping[str, Iterable[str]]
"""Label name -> the values it may have."""


class _Family:
    """One metric with all its label values. `kind` as in ``# TYPE``."""

    kind = "untyped"

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self.name, self.text = name, text
        self._names = tuple(labels)
        self._allowed = tuple(frozenset(values) | {OTHER} for values in labels.values())

    def _key(self, values: Sequence[str]) -> tuple[str, ...]:
        if len(values) != len(self._names):
            raise ValueError(f"{self.name} has the labels {self._names}, not {len(values)} of them")
        return tuple(value if value in known else OTHER for value, known in zip(values, self._allowed, strict=True))

    def _labelled(self, key: Sequence[str], *more: tuple[str, str]) -> str:
        pairs = [*zip(self._names, key, strict=True), *more]
        inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
        return f"{{{inside}}}" if inside else ""

    def lines(self) -> Iterator[str]:
        """Its text, header included."""
        yield f"# HELP {self.name} {self.text.replace(chr(92), chr(92) * 2).replace(chr(10), chr(92) + 'n')}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterator[str]:
        raise NotImplementedError


class Gauge(_Family):
    """A value that goes up and down. A label value that was never set does not appear."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: Labels | None = None) -> None:
        super().__init__(name, text, labels or {})
        self._values: dict[tuple[str, ...], float] = {}

    def set(self, value: float | None, *labels: str) -> None:
        """The value now; None: unknown, and then it does not appear."""
        key = self._key(labels)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def _samples(self) -> Iterator[str]:
        for key, value in self._values.items():
            yield f"{self.name}{self._labelled(key)} {_number(value)}"


class Counter(Gauge):
    """A count that only grows while the process lives. Its name ends in ``_total``."""

    kind = "counter"

    def inc(self, *labels: str, by: float = 1) -> None:
        """Count."""
        key = self._key(labels)
        self._values[key] = self._values.get(key, 0) + by


class Histogram(_Family):
    """How often a value was at most so large, per bucket."""

    kind = "histogram"

    def __init__(self, name: str, text: str, buckets: Sequence[float] = LATENCY_S) -> None:
        super().__init__(name, text, {})
        self._buckets = tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._buckets, value)] += 1
        self._sum += value

    def _samples(self) -> Iterator[str]:
        total = 0
        for limit, count in zip((*self._buckets, float("inf")), self._counts, strict=True):
            total += count
            yield f"{self.name}_bucket{self._labelled((), ('le', _number(limit)))} {total}"
        yield f"{self.name}_sum {_number(self._sum)}"
        yield f"{self.name}_count {total}"


Family = TypeVar("Family", bound=_Family)


class Metrics:
    """All metrics of one process, in the order in which they were made, and those of the process itself."""

    def __init__(self) -> None:
        self._families: list[_Family] = []
        self.before_scrape: list[Callable[[], None]] = [_Process(self).look]
        self.loop_lag = self.histogram(
            "tillgate_loop_lag_seconds", "How late the event loop came to what was due, measured once a second"
        )

    def gauge(self, name: str, text: str, labels: Labels | None = None) -> Gauge:
        return self._added(Gauge(name, text, labels))

    def counter(self, name: str, text: str, labels: Labels | None = None) -> Counter:
        return self._added(Counter(name, text, labels))

    def histogram(self, name: str, text: str, buckets: Sequence[float] = LATENCY_S) -> Histogram:
        return self._added(Histogram(name, text, buckets))

    def _added(self, family: Family) -> Family:
        self._families.append(family)
        return family

    def catalogue(self) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
        """(name, kind, labels, text) of every metric."""
        for family in self._families:
            yield family.name, family.kind, family._names, family.text

    def text(self) -> bytes:
        """What a scrape gets."""
        for look in self.before_scrape:
            look()
        return "\n".join([line for family in self._families for line in family.lines()] + [""]).encode()


class _Process:
    """What the kernel knows of this process."""

    def __init__(self, metrics: Metrics) -> None:
        self._cpu = metrics.counter("process_cpu_seconds_total", "User and system time of this process")
        self._memory = metrics.gauge("process_resident_memory_bytes", "Resident memory of this process")
        self._files = metrics.gauge("process_open_fds", "Open file descriptors of this process")
        started = metrics.gauge("process_start_time_seconds", "When this process began to count, since 1970")
        started.set(time.time())

    def look(self) -> None:
        times = os.times()
        self._cpu.set(times.user + times.system)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self._memory.set(pages * os.sysconf("SC_PAGE_SIZE"))
        self._files.set(len(os.listdir("/proc/self/fd")))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)
