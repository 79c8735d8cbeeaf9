"""Where each device was plugged in last, and under which serial number: how a swapped device is known for one.

Strategy: one row per device, written when it is found elsewhere or has become another. The port goes back to the
transport at the next start, which looks there for a replacement when the configured serial number is gone.

Source: design page "Devices" (swapping a broken device needs no configuration).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.journal.store import Statement, Store

PLACES_SCHEMA = """
CREATE TABLE IF NOT EXISTS device_places (
    device TEXT PRIMARY KEY,
    port TEXT NOT NULL,
    serial TEXT
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as it was found: in `port`, calling itself `serial` (None: it has no number)."""

    port: str
    serial: str | None


class Places:
    """What is remembered of where devices are. `open` first."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seen: dict[str, Seen] = {}

    async def open(self) -> None:
        """Read what earlier lives have seen."""
        rows = await self.store.fetch_all("SELECT device, port, serial FROM device_places")
        self._seen = {device: Seen(port, serial) for device, port, serial in rows}

    def last(self, device_id: str) -> Seen | None:
        """Where it was last, or None for a device that was never found by its identity."""
        return self._seen.get(device_id)

    def remember(self, device_id: str, seen: Seen) -> Statement:
        """The statement that keeps it."""
        self._seen[device_id] = seen
        return (
            "INSERT INTO device_places(device, port, serial) VALUES (?, ?, ?)"
            " ON CONFLICT (device) DO UPDATE SET port = excluded.port, serial = excluded.serial",
            (device_id, seen.port, seen.serial),
        )
