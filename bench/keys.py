"""Key events of a keyboard scanner to a whole code: what one scan costs in each layout, and what a layout costs once.

Beside it the floor: unpacking the same records and looking at none of them. No process, no socket: the parser alone.
"""

from __future__ import annotations

import resource
import sys
import time

from bench.report import Goal, Report, finish, median, parser
from drivers.events import Scan
from drivers.scanners.keyboard import RECORD, KeyboardScanner, KeyboardScannerOptions
from drivers.scanners.xkb import load_layout
from drivers.virtual.key_rows import KEYBOARDS
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.wire import TcpWire

ROUNDS, SCANS_A_ROUND = 15, 400
LIMIT_MS = 5.0
EAN = "4006381333931"
GS1 = "0109501101530003172612311021-A/b\x1d3103000482"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    chosen = parser((__doc__ or "").partition("\n")[0]).parse_args(arguments)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    load_layout("us")
    report = Report("keys", {"first_layout_ms": (time.perf_counter() - started) * 1000})
    report.figures["first_layout_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    started = time.perf_counter()
    for layout in KEYBOARDS:
        load_layout(layout)
    report.figures["further_layout_ms"] = (time.perf_counter() - started) * 1000 / (len(KEYBOARDS) - 1)

    worst_ms = 0.0
    streams: dict[str, tuple[str, bytes]] = {}
    for layout in KEYBOARDS:
        twin = VirtualKeyboard("bench", TcpWire(0), layout=layout)
        streams[f"layout_{layout}_ean13_us"] = (layout, twin.frame(EAN, "E0"))
    for layout, alt in (("us", False), ("de", False), ("de", True)):
        twin = VirtualKeyboard("bench", TcpWire(0), layout=layout, alt=alt)
        streams[f"layout_{layout}_gs1_by_{'alt' if alt else 'ctrl'}_us"] = (layout, twin.frame(GS1, "e0"))
    times: dict[str, list[float]] = {name: [] for name in streams}
    floor: list[float] = []
    for _ in range(ROUNDS):  # in turns, so that all share whatever else the machine is doing
        for name, (layout, events) in streams.items():
            times[name].append(_decoding_us(layout, events))
        floor.append(_unpacking_us(streams["layout_us_ean13_us"][1]))
    for name, taken in times.items():
        report.figures[name] = median(taken)
        worst_ms = max(worst_ms, max(taken) / 1000)
    report.peers["unpacking the records of layout_us_ean13"] = {"per_scan_us": median(floor)}
    report.goals.append(Goal("worst_round_ms", worst_ms, LIMIT_MS))
    return finish(report, as_json=chosen.json)


def _decoding_us(layout: str, events: bytes) -> float:
    parser_ = KeyboardScanner(KeyboardScannerOptions(layout=layout))
    started = time.perf_counter()
    for _ in range(SCANS_A_ROUND):
        (scan,) = parser_.receive(events)
        assert isinstance(scan, Scan)
    return (time.perf_counter() - started) * 1e6 / SCANS_A_ROUND


def _unpacking_us(events: bytes) -> float:
    started = time.perf_counter()
    for _ in range(SCANS_A_ROUND):
        for _ in RECORD.iter_unpack(events):
            pass
    return (time.perf_counter() - started) * 1e6 / SCANS_A_ROUND


if __name__ == "__main__":
    sys.exit(main())
