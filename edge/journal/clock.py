"""What time it is, and how far that may be believed.

Strategy: a stamp carries the wall time, the boot id and the milliseconds since that boot, so that order and age never
depend on the wall clock (a small board has no battery clock and wakes up in the past). Trust comes from the kernel: it
knows whether something disciplines its clock. Once the clock has been trusted, the difference between wall and boot
time dates every earlier row of that boot.

Source: adjtimex(2) and the kernel's include/uapi/linux/timex.h (STA_UNSYNC); clock_gettime(2) (CLOCK_BOOTTIME counts
suspended time too); systemd-timesyncd.service(8) for the marker file.
"""

from __future__ import annotations

import ctypes
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

STA_UNSYNC = 0x0040
_TRUST_VALID_MS = 1_000
_TIMESYNC_MARKER = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockTrust(StrEnum):
    """How far the wall clock may be believed."""

    SYNCED = "synced"
    """Disciplined by a time source now."""
    HOLDOVER = "holdover"
    """Was disciplined earlier in this boot, runs on its own now."""
    UNKNOWN = "unknown"
    """Never disciplined in this boot as far as we can see."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One moment: `wall` is UTC with milliseconds and ``Z``, `mono_ms` counts from the boot `boot`."""

    wall: str
    boot: str
    mono_ms: int
    trust: ClockTrust
    offset_ms: int
    """Wall clock minus boot clock, in milliseconds since 1970."""


class _Timex(ctypes.Structure):
    """`struct timex`; only `modes` (0: read only) and `status` are of interest, the rest gives them their place."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_rest", ctypes.c_char * 256),
    )


def kernel_synced() -> bool | None:
    """Whether the kernel's clock is disciplined; None where the kernel does not say."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    timex = _Timex()
    if adjtimex(ctypes.byref(timex)) < 0:
        return None
    return not timex.status & STA_UNSYNC


def read_boot_id() -> str:
    """The kernel's id of this boot; where there is none, a new one, so that two boots are never taken for one."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())


def wall_text(wall_ms: int) -> str:
    """Milliseconds since 1970 as UTC: ``2026-05-04T09:30:00.000Z``."""
    moment = datetime.fromtimestamp(wall_ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ms % 1_000:03d}Z"


def age_ms(boot: str, mono_ms: int, now: Stamp, offsets: Mapping[str, int]) -> int:
    """How long ago `mono_ms` of `boot` was, at least.

    Counted on the boot clock. Between boots it needs the recorded offset of both (`offsets`: by boot); without them it
    is as long ago as this boot began, for the wall clock alone may be off by years.
    """
    if boot == now.boot:
        return now.mono_ms - mono_ms
    here, there = offsets.get(now.boot), offsets.get(boot)
    if here is None or there is None:
        return now.mono_ms
    return max(now.mono_ms, (now.mono_ms + here) - (mono_ms + there))


class Clock:
    """The gateway's clock. `wall_ms`, `mono_ms`, `synced` and `boot` are replaceable so that a test can turn them."""

    def __init__(
        self,
        *,
        wall_ms: Callable[[], int] | None = None,
        mono_ms: Callable[[], int] | None = None,
        synced: Callable[[], bool | None] = kernel_synced,
        boot: str | None = None,
        marker: Path = _TIMESYNC_MARKER,
    ) -> None:
        self._wall_ms = wall_ms or _system_wall_ms
        self._mono_ms = mono_ms or _system_mono_ms
        self._synced = synced
        self._marker = marker
        self.boot = boot or read_boot_id()
        self._was_synced = False
        self._trust = ClockTrust.UNKNOWN
        self._trust_until_ms = -1

    def now(self) -> Stamp:
        """This moment. Trust is asked of the kernel at most once a second."""
        mono_ms, wall_ms = self._mono_ms(), self._wall_ms()
        if mono_ms >= self._trust_until_ms:
            self._trust = self._judge()
            self._trust_until_ms = mono_ms + _TRUST_VALID_MS
        return Stamp(wall_text(wall_ms), self.boot, mono_ms, self._trust, wall_ms - mono_ms)

    def remember_synced(self) -> None:
        """An earlier process of this boot saw the clock synced: from now on it is at least in holdover."""
        self._was_synced = True
        self._trust_until_ms = -1

    def _judge(self) -> ClockTrust:
        kernel = self._synced()
        marked = self._marker.exists()
        if kernel or (kernel is None and marked):
            self._was_synced = True
            return ClockTrust.SYNCED
        if self._was_synced or marked:
            return ClockTrust.HOLDOVER
        return ClockTrust.UNKNOWN


def _system_wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _system_mono_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
