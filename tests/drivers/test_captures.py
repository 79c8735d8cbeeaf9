"""Replays every capture: whole, in the smallest pieces, after noise, and cut off (at up to 500 places)."""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path

import pytest

from drivers.capture import BadCapture, Capture, Table, feed, load, new_protocol, plain, replay, save
from drivers.catalog import DEVICES
from drivers.errors import BadOption
from drivers.events import Noise

FOLDERS = sorted(path.parent for path in Path(__file__).parent.parent.glob("captures/*/*/bytes.rx"))
RUBBISH = b"\x00\xff\x80\x01\xc3\x07"
FOREIGN_KEY_EVENT = struct.pack("llHHi", 0, 0, 0x1234, 99, -1)


def ids(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def meaningful(tables: list[Table] | tuple[Table, ...]) -> list[Table]:
    return [table for table in tables if table["event"] != "Noise"]


def rubbish_for(capture: Capture) -> bytes:
    """What a disturbed line of this kind carries: where the kernel never splits a record, a whole one of no use."""
    if capture.records:
        return FOREIGN_KEY_EVENT
    return (RUBBISH * capture.step_bytes)[: capture.step_bytes] if capture.reports else RUBBISH


def test_there_is_a_capture_of_every_protocol() -> None:
    kinds = {folder.parent.name for folder in FOLDERS}
    # A display says nothing, so there is nothing to capture.
    assert kinds == {kind for kind, one in DEVICES.items() if one.build is not None and one.category != "display"}
    assert all(load(folder).kind == folder.parent.name for folder in FOLDERS)
    assert all(load(folder).notes.strip() for folder in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_whole(folder: Path) -> None:
    capture = load(folder)
    assert capture.meaning() == list(capture.expected)


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_in_the_smallest_pieces(folder: Path) -> None:
    capture = load(folder)
    steps = capture.steps(smallest=True)
    if capture.records:  # the kernel never splits one; the parser would not mind
        steps = [capture.sent[at : at + 1] for at in range(len(capture.sent))]
    assert plain(replay(capture.protocol(), steps)) == list(capture.expected)


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_after_noise_all_but_the_first_event_are_whole(folder: Path) -> None:
    capture = load(folder)
    heard = replay(capture.protocol(), [rubbish_for(capture), *capture.steps(smallest=True)])
    expected, good = meaningful(capture.expected), meaningful(plain(heard))
    assert good == expected if capture.step_bytes > 1 else good in (expected, expected[1:])
    assert capture.records or any(isinstance(event, Noise) for event in heard)


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_cut_off_anywhere_nothing_comes_short(folder: Path) -> None:
    capture = load(folder)
    expected, size = meaningful(capture.expected), len(capture.sent)
    ends = [0, *accumulate(capture.reports)] if capture.reports else range(size + 1)
    for end in ends[:: max(1, len(ends) // 500)]:
        protocol = capture.protocol()
        events = [event for step in capture.steps(end=end) for event in feed(protocol, step)]
        events += protocol.cut_off()
        good = meaningful(plain(events))
        assert good == expected[: len(good)]
        assert not protocol.pending
        assert not protocol.receive(b"")


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_a_capture_that_is_saved_is_the_same(folder: Path, tmp_path: Path) -> None:
    capture = load(folder)
    save(capture, tmp_path / "new")
    assert load(tmp_path / "new") == capture
    with pytest.raises(BadCapture, match="choose a new folder"):
        save(capture, tmp_path / "new")


def test_a_folder_that_is_no_capture_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadCapture, match="four files"):
        load(tmp_path)
    (tmp_path / "protocol.json").write_text("{}")
    (tmp_path / "bytes.rx").write_bytes(b"")
    (tmp_path / "expected.jsonl").write_text("")
    (tmp_path / "README").write_text("")
    with pytest.raises(BadCapture, match="kind"):
        load(tmp_path)
    with pytest.raises(BadOption, match="expected one of"):
        new_protocol("printer-drawer", {})
