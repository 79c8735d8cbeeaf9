"""A short fuzzing of every parser, and proof that the fuzzer finds what it looks for (`./dev fuzz` runs it longer)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from drivers.catalog import DEVICES
from drivers.events import Event, Noise, Weight
from drivers.scales.toledo_8217 import Toledo8217
from tests.fuzz.door import close_all
from tests.fuzz.oracles import ORACLES
from tests.fuzz.readers import Contradiction, Reader, Refused
from tests.fuzz.runner import Fuzzer
from tests.fuzz.targets import Setup, Target, targets

SEED = 20_260_512


@pytest.fixture(scope="module", autouse=True)
def _worlds() -> Iterator[None]:
    """What stands behind the doors goes when all is done."""
    yield
    close_all()


@pytest.mark.parametrize("kind", list(targets()))
def test_nothing_is_found_in(kind: str) -> None:
    fuzzer, inputs = Fuzzer(targets()[kind], SEED), targets()[kind].quick
    explored = fuzzer.stretch(30, guided=True, inputs=inputs // 15)
    tally = fuzzer.stretch(30, inputs=inputs)
    assert [str(finding) for finding in explored.findings + tally.findings] == []
    assert explored.ways > 10
    assert tally.inputs >= inputs
    assert tally.events.total() > inputs / 20


def test_every_scale_is_read_twice() -> None:
    scales = {kind for kind, one in DEVICES.items() if one.category == "scale" and one.build is not None}
    assert scales <= set(ORACLES)


@pytest.mark.parametrize("what", [ValueError, Contradiction])
def test_a_reader_that_raises_anything_but_a_refusal_is_found(what: type[Exception]) -> None:
    def read(data: bytes) -> int:
        if data[:1] == b"b":
            raise Refused("not this one")
        if len(data) > 3:
            raise what("of an address")
        return len(data)

    target = Target("reader", [Setup({})], [b"abc", b"bcd"], split="never", build=lambda _: Reader(read))
    (finding,) = Fuzzer(target, SEED).stretch(60, inputs=20_000).findings
    assert finding.what == f"{what.__name__}: of an address"


# -- parsers with one thing wrong: each must be found ------------------------------------------------------------------


class Crashes(Toledo8217):
    def _judge(self, raw: bytes) -> Sequence[Event]:
        if raw[1:2] == b"?" and raw[2] & 0x08:
            raise IndexError("no such status")
        return super()._judge(raw)


class ReadsWrongly(Toledo8217):
    def _judge(self, raw: bytes) -> Sequence[Event]:
        events = super()._judge(raw)
        if isinstance(events[0], Weight) and raw[1:2] == b"9":
            return [Weight("0.482", "kg", True, False, None, raw)]
        return events


class Keeps(Toledo8217):
    def __init__(self) -> None:
        super().__init__()
        self.log = bytearray()

    def receive(self, data: bytes) -> Sequence[Event]:
        self.log += data
        return super().receive(data)


class Hangs(Toledo8217):
    def receive(self, data: bytes) -> Sequence[Event]:
        while data.startswith(b"\x02?"):
            pass
        return super().receive(data)


class NeedsItWhole(Toledo8217):
    def receive(self, data: bytes) -> Sequence[Event]:
        self._frames.give_up()
        return super().receive(data)


class Holds(Toledo8217):
    def cut_off(self) -> Sequence[Event]:
        return []


class MakesItUp(Toledo8217):
    def idle(self) -> Sequence[Event]:
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        rest = super().cut_off()
        return [Weight("1.000", "kg", True, False, None, b"\x0201.000\r")] if rest else []


class SaysNothingOfIt(Toledo8217):
    def _judge(self, raw: bytes) -> Sequence[Event]:
        return [Noise(raw, "") if isinstance(event, Noise) else event for event in super()._judge(raw)]


@pytest.mark.parametrize(
    ("parser", "what"),
    [
        (Crashes, "IndexError: no such status"),
        (ReadsWrongly, "where the frame says"),
        (Keeps, "keeps"),
        (Hangs, "no end after"),
        (NeedsItWhole, "in pieces it delivers"),
        (Holds, "still begun"),
        (MakesItUp, "whose frame was not sent"),
        (SaysNothingOfIt, "without a reason"),
    ],
)
def test_what_is_wrong_is_found(parser: Callable[[], Toledo8217], what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import runner

    if parser is Hangs:  # the others have time: a loaded machine is no endless loop
        monkeypatch.setattr(runner, "HANG_S", 0.2)
    seeds = targets()["toledo-8217"].seeds
    target = Target("toledo-8217", [Setup({})], list(seeds), build=lambda _: parser())
    (finding,) = Fuzzer(target, SEED).stretch(60, inputs=2_000_000).findings
    assert what in finding.what


def test_the_command_reports_inputs_per_parser() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "1", "--workers", "1", "--json", "serial-scanner"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    assert report["parsers"]["serial-scanner"]["inputs"] > 0
    assert report["parsers"]["serial-scanner"]["findings"] == []
