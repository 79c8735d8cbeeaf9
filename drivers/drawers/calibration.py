"""What the level of a drawer's switch means: learnt once from the drawer itself, with a person who closes it.

    the person closes it   read: closed
    we open it             read: opened
    the person closes it   read: closed again

Pure: levels in, a verdict out. The third reading tells a switch from a line that merely wandered.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.drawers.pulse import Level


@dataclass(frozen=True, slots=True)
class Readings:
    """The level of pin 3 (True: high) at each step; None: not read."""

    closed: bool | None = None
    opened: bool | None = None
    closed_again: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`open_when` is the level of the open drawer, None where the contact does not tell; `why` is for people."""

    open_when: Level | None
    why: str


def judge(readings: Readings) -> Verdict:
    """What three readings say."""
    closed, opened, again = readings.closed, readings.opened, readings.closed_again
    if closed is None or opened is None or again is None:
        return Verdict(None, "the printer did not report the contact; does this model have a drawer sensor?")
    if closed != again:
        return Verdict(None, "closed reads differently each time: was it closed? Close it and calibrate again")
    if closed == opened:
        return Verdict(
            None,
            "the contact did not change: either the drawer did not open (is it locked?), or it has no switch;"
            " what cannot be seen is recorded as unknown",
        )
    return Verdict("high" if opened else "low", "the contact tells")


def named(level: bool | None) -> Level | None:
    """A reading as people write it."""
    return None if level is None else "high" if level else "low"
