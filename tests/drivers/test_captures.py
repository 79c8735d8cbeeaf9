"""Replays every capture: whole, one byte at a time, after line noise, and cut off (at up to 500 places).

A capture is `tests/captures/<kind>/<model>/` with `bytes.rx` (what the device sent), `expected.jsonl` (the
events), a README (where it comes from) and `protocol.json` (the kind, its options, for a printer the
questions asked before).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import DEVICES, build_driver, read_device
from drivers.events import Event, Noise
from drivers.protocol import DeviceProtocol
from drivers.scanners.keyboard import RECORD
from drivers.transports.tcp import TcpOptions, TcpTransport

CAPTURES = sorted(path.parent for path in Path(__file__).parent.parent.glob("captures/*/*/bytes.rx"))
RUBBISH = b"\x00\xff\x80\x01\xc3\x07"


def ids(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def protocol_of(capture: Path) -> DeviceProtocol:
    spec = json.loads((capture / "protocol.json").read_text())
    options = read_device(spec["kind"], spec["options"])
    protocol = build_driver(spec["kind"], options, TcpTransport(TcpOptions("127.0.0.1")), lambda _: None).protocol
    if "asked" in spec:
        protocol.asking(spec["asked"])  # type: ignore[attr-defined]
    return protocol


def made_of_records(capture: Path) -> bool:
    return bool(json.loads((capture / "protocol.json").read_text()).get("records"))


def sent_by(capture: Path) -> bytes:
    data = (capture / "bytes.rx").read_bytes()
    if made_of_records(capture):  # stored as a 64-bit machine has them
        return b"".join(RECORD.pack(*record) for record in struct.iter_unpack("<qqHHi", data))
    return data


def expected_of(capture: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (capture / "expected.jsonl").read_text().splitlines()]


def plain(events: Iterable[Event]) -> list[dict[str, Any]]:
    tables = []
    for event in events:
        table = {"event": type(event).__name__, **asdict(event)}
        for key in ("raw", "captured_ns"):
            table.pop(key, None)
        for key, value in table.items():
            if isinstance(value, bytes):
                table[key] = value.hex()
        tables.append(table)
    return tables


def replay(protocol: DeviceProtocol, chunks: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for chunk in chunks:
        events += protocol.receive(chunk)
    if protocol.pending:
        events += protocol.idle()
    return events


def meaningful(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [table for table in tables if table["event"] != "Noise"]


def test_there_is_a_capture_of_every_protocol() -> None:
    kinds = {capture.parent.name for capture in CAPTURES}
    assert kinds == {kind for kind, entry in DEVICES.items() if entry.build is not None}
    assert all((capture / "README").read_text().strip() for capture in CAPTURES)


@pytest.mark.parametrize("capture", CAPTURES, ids=ids)
def test_whole(capture: Path) -> None:
    assert plain(replay(protocol_of(capture), [sent_by(capture)])) == expected_of(capture)


@pytest.mark.parametrize("capture", CAPTURES, ids=ids)
def test_one_byte_at_a_time(capture: Path) -> None:
    data = sent_by(capture)
    chunks = (data[i : i + 1] for i in range(len(data)))
    assert plain(replay(protocol_of(capture), chunks)) == expected_of(capture)


@pytest.mark.parametrize("capture", CAPTURES, ids=ids)
def test_after_line_noise_all_but_the_first_event_are_whole(capture: Path) -> None:
    expected = meaningful(expected_of(capture))
    if made_of_records(capture):  # the kernel never splits a record: rubbish is a record of an unknown kind
        heard = replay(protocol_of(capture), [RECORD.pack(0, 0, 0x1234, 99, -1), sent_by(capture)])
        assert meaningful(plain(heard)) == expected
        return
    heard = replay(protocol_of(capture), [RUBBISH, sent_by(capture)])
    good = meaningful(plain(heard))
    assert good in (expected, expected[1:])
    assert any(isinstance(event, Noise) for event in heard)


@pytest.mark.parametrize("capture", CAPTURES, ids=ids)
def test_cut_off_anywhere_nothing_comes_short(capture: Path) -> None:
    data, expected = sent_by(capture), meaningful(expected_of(capture))
    for end in range(0, len(data) + 1, max(1, len(data) // 500)):
        protocol = protocol_of(capture)
        events = [*protocol.receive(data[:end]), *protocol.cut_off()]
        good = meaningful(plain(events))
        assert good == expected[: len(good)]
        assert not protocol.pending
        assert not protocol.receive(b"")
