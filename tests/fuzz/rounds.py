"""Rounds of fuzzing over several processes: whoever has had the fewest inputs is next, so all come to about as many."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from tests.fuzz.runner import Finding, Fuzzer, Tally
from tests.fuzz.targets import targets

SLICE_S = 0.5
GUIDED_SHARE = 0.05
_fuzzers: dict[str, Fuzzer] = {}


@dataclass(slots=True)
class Sum:
    """All stretches of one parser."""

    inputs: int = 0
    seconds: float = 0.0
    ways: int = 0
    longest_s: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, tally: Tally, seconds: float) -> None:
        """Count one more stretch."""
        self.inputs += tally.inputs
        self.seconds += seconds
        self.ways = max(self.ways, tally.ways)
        self.longest_s = max(self.longest_s, tally.longest_s)
        self.events += tally.events
        self.findings += tally.findings


def _stretch(kind: str, seconds: float, guided: bool, seed: int) -> tuple[Tally, float]:
    began = time.perf_counter()
    if kind not in _fuzzers:
        logging.getLogger().addHandler(logging.NullHandler())  # what is refused is many lines
        _fuzzers[kind] = Fuzzer(targets()[kind], seed ^ os.getpid())
    return _fuzzers[kind].stretch(seconds, guided=guided), time.perf_counter() - began


def run(kinds: list[str], seconds: float, seed: int, workers: int, inputs: int | None = None) -> dict[str, Sum]:
    """Fuzz `kinds` for `seconds` in all; so many `inputs`, or whatever is found, ends that parser's turn."""
    sums = {kind: Sum() for kind in kinds}
    guided = dict.fromkeys(kinds, workers * GUIDED_SHARE * seconds)
    for kind in guided:
        guided[kind] /= len(kinds)
    end = time.monotonic() + seconds
    told = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: dict[Future[tuple[Tally, float]], tuple[str, bool]] = {}
        while True:
            open_ = [kind for kind in kinds if not sums[kind].findings and sums[kind].inputs < (inputs or 10**18)]
            while open_ and len(running) < workers and time.monotonic() < end:
                busy = Counter(kind for kind, _ in running.values())
                kind = min(open_, key=lambda one: (guided[one] <= 0, busy[one], sums[one].inputs))
                exploring = guided[kind] > 0
                guided[kind] -= SLICE_S
                slice_s = min(SLICE_S, max(0.05, end - time.monotonic()))
                running[pool.submit(_stretch, kind, slice_s, exploring, seed)] = (kind, exploring)
            if not running:
                return sums
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                kind, _ = running.pop(future)
                tally, took_s = future.result()
                sums[kind].add(tally, took_s)
                for finding in tally.findings:
                    print(f"fuzz: {finding}", file=sys.stderr, flush=True)
            if time.monotonic() - told > 5:
                told = time.monotonic()
                least = min(sums.values(), key=lambda one: one.inputs).inputs
                total = sum(one.inputs for one in sums.values())
                left_s = max(0, int(end - told))
                print(f"fuzz: {total:,} inputs, at least {least:,} each, {left_s} s left", file=sys.stderr, flush=True)
