"""Tells those who wait for a device that something was plugged in, so that nobody looks again and again.

Strategy: a device with a path waits for its directory (`directories.py`); one that is found by its identity, for the
events of the kernel's devices that udev sends on when it is done with them (or the kernel itself, where no udev runs).
Every event wakes the one attempt to open; whether it is the right device, that attempt finds out. Where no events come
(a container without them) and for devices on a network, waiting with backoff remains.

A service that is confined must be let have netlink sockets (AF_NETLINK) for the second kind.

Source: inotify(7); libudev, udev_monitor_new_from_netlink(3): "udev" or "kernel".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.transports.place import Place
from edge.devices.directories import Directories

log = logging.getLogger(__name__)

SUBSYSTEMS = ("tty", "input", "hidraw", "usb", "usbmisc")
_UDEV_RUNS = Path("/run/udev/control")


class Plug:
    """What one device waits for. `eventful`: whether events come at all."""

    def __init__(self) -> None:
        self.eventful = False
        self._plugged = asyncio.Event()

    def set(self) -> None:
        """Something was plugged in."""
        self._plugged.set()

    def clear(self) -> None:
        """From now on it counts: call it before an attempt to open, so that nothing between it and `wait` is missed."""
        self._plugged.clear()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for an event, at most so long; whether one came."""
        try:
            async with asyncio.timeout(seconds):
                await self._plugged.wait()
        except TimeoutError:
            return False
        return True


class Hotplug:
    """All plugs of the gateway. `plug` for each device, then `start` within the running event loop."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[Plug]] = {}
        self._by_identity: list[Plug] = []
        self._directories: Directories | None = None
        self._monitor: _Monitor | None = None

    def plug(self, place: Place | None) -> Plug:
        """What a device at `place` waits for; without a place (on a network) no event ever comes."""
        plug = Plug()
        if place is not None and place.path:
            self._by_path.setdefault(place.path, []).append(plug)
        elif place is not None:
            self._by_identity.append(plug)
        return plug

    def start(self) -> None:
        """Listen for what is plugged in."""
        if self._by_path:
            self._directories = Directories(self._by_path, self._appeared)
            eventful = self._directories.start()
            for plugs in self._by_path.values():
                for plug in plugs:
                    plug.eventful = eventful
        if self._by_identity:
            self._monitor = _Monitor(self._plugged_in)
            eventful = self._monitor.start()
            for plug in self._by_identity:
                plug.eventful = eventful

    def close(self) -> None:
        """Listen no more."""
        for source in (self._directories, self._monitor):
            if source is not None:
                source.close()

    def _appeared(self, path: str) -> None:
        for plug in self._by_path[path]:
            plug.set()

    def _plugged_in(self) -> None:
        for plug in self._by_identity:
            plug.set()


class _Monitor:
    """The kernel's devices, over netlink."""

    def __init__(self, happened: Callable[[], None]) -> None:
        self._happened = happened
        self._monitor: Any = None

    def start(self) -> bool:
        """Listen; False where libudev or netlink is not to be had."""
        try:
            import pyudev  # loads libudev: only where a device is found by its identity

            source = "udev" if _UDEV_RUNS.exists() else "kernel"
            monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source)
            for subsystem in SUBSYSTEMS:
                monitor.filter_by(subsystem)
            monitor.start()
        except (ImportError, OSError) as error:
            log.warning("no events of USB devices (%s): a lost one is looked for every few seconds", error)
            return False
        self._monitor = monitor
        asyncio.get_running_loop().add_reader(monitor.fileno(), self._readable)
        return True

    def close(self) -> None:
        """Listen no more."""
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor = None

    def _readable(self) -> None:
        try:
            while self._monitor.poll(timeout=0) is not None:
                pass
        except OSError as error:  # more came than the kernel keeps for us: whatever it was, look
            log.info("some events of devices were lost: %s", error)
        self._happened()
