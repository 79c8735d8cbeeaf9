"""What every benchmark prints: a table for people and, with ``--json``, one JSON object.

The object has `name`, `machine`, `commit`, `figures` (each with its unit in its name), `peers` (what it was compared
with, measured in the same run) and `goals` (`name`, `value`, `limit`, `met`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Figures = dict[str, float | int | str]
"""What was measured, each with its unit in its name."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise: `value` must be at most (or at least) `limit`."""

    name: str
    value: float
    limit: float
    sense: Literal["at most", "at least"] = "at most"

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit


@dataclass(slots=True)
class Report:
    """What one benchmark measured. Figures are printed in the order they were put in."""

    name: str
    figures: Figures = field(default_factory=dict)
    peers: dict[str, Figures] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The one JSON object."""
        return {
            "name": self.name,
            "machine": machine(),
            "commit": commit(),
            "figures": self.figures,
            "peers": self.peers,
            "goals": [
                {"name": goal.name, "value": goal.value, "limit": goal.limit, "met": goal.met} for goal in self.goals
            ],
        }

    def as_text(self) -> str:
        """The table."""
        lines = [f"{self.name} on {machine()['description']}, commit {commit()}", ""]
        lines += [f"  {name:<44} {shown(value):>14}" for name, value in self.figures.items()]
        for peer, figures in self.peers.items():
            lines += ["", f"  beside: {peer}"]
            lines += [f"  {name:<44} {shown(value):>14}" for name, value in figures.items()]
        lines.append("")
        for goal in self.goals:
            mark = "met" if goal.met else "MISSED"
            lines.append(f"  goal: {goal.name} {goal.sense} {shown(goal.limit)}: {shown(goal.value)}  {mark}")
        return "\n".join(lines)


def shown(value: float | int | str) -> str:
    """A figure as people read it: three places at most, thousands apart."""
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def machine() -> dict[str, Any]:
    """The machine that this runs on."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "Model"))
    ]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    memory_gib = int(memory.split()[1]) / 1024**2
    cores = os.cpu_count() or 1
    python = platform.python_version()
    return {
        "description": f"{cores} cores ({cpu}), {memory_gib:.0f} GiB, Python {python}",
        "cores": cores,
        "cpu": cpu,
        "memory_gib": round(memory_gib, 1),
        "python": python,
        "kernel": platform.release(),
    }


def commit() -> str:
    """The commit that is checked out, with ``+`` when files differ from it."""
    root = Path(__file__).parents[1]
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return told.stdout.strip() or "unknown"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie: nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def ratios_of_tls(prefix: str, tls: Sequence[float], plain: Sequence[float]) -> Figures:
    """How many times as long it takes by TLS as on the plain port, in the middle and at the 99th percentile."""
    return {
        f"{prefix}tls_to_plain_p50_ratio": median(tls) / median(plain),
        f"{prefix}tls_to_plain_p99_ratio": percentile(tls, 0.99) / percentile(plain, 0.99),
    }


def goals_of_tls(prefix: str, what: str, figures: Figures) -> list[Goal]:
    """What TLS may cost, of `ratios_of_tls`."""
    return [
        Goal(f"median by TLS, times plain, {what}", float(figures[f"{prefix}tls_to_plain_p50_ratio"]), 1.5),
        Goal(f"p99 by TLS, times plain, {what}", float(figures[f"{prefix}tls_to_plain_p99_ratio"]), 2.0),
    ]


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark has."""
    made = argparse.ArgumentParser(prog="./dev bench", description=description)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return made


def finish(report: Report, *, as_json: bool) -> int:
    """Print the report. Measured is measured: the exit status is 0, goals met or not."""
    print(json.dumps(report.as_json()) if as_json else report.as_text())
    sys.stdout.flush()
    return 0
