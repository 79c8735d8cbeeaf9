"""What the gateway says of its devices."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import EventId, Id, Recorded


class DrawerOpened(Recorded):
    device: Id
    lane: Id | None
    request: EventId | None = Field(description="the request that opened it; null: opened without a command")
    operator_id: Id | None = None
    operator_verified: bool = Field(
        default=False, description="they were logged in; otherwise it is what the till said"
    )
    receipt_number: str | None = None
    reason: str | None = None
    outcome: Literal["seen", "unknown"] = Field(description="seen: the drawer's own contact said so")
    shared_with: tuple[Id, ...] = Field(
        default=(), strict=False, description="drawers on the same contact: it may have been one of these instead"
    )


class DrawerClosed(Recorded):
    device: Id
    lane: Id | None
    open_ms: int | None = Field(description="how long it stood open; null when the opening was not seen")


class DrawerLeftOpen(Recorded):
    device: Id
    lane: Id | None
    request: EventId | None = Field(description="the request that opened it; null: opened without a command")
    open_ms: int | None = Field(description="how long it has stood open by now; null when the opening was not seen")


class DeviceChanged(Recorded):
    device: Id
    category: str
    state: str
    detail: str = ""
    changes: int = Field(default=1, ge=1, description="how often it changed since it was last told")


class DeviceSwapped(Recorded):
    device: Id
    category: str
    port: str
    serial_before: str | None = Field(description="of the device that was in this port; null: it had none")
    serial_now: str | None


class DeviceTakenOver(Recorded):
    device: Id
    category: str
    lane: Id
    from_lane: Id
    operator_id: Id
    operator_verified: bool = Field(
        default=False, description="they were logged in; otherwise it is what the till said"
    )
    reason: str = Field(min_length=1, max_length=200)
    lease: int = Field(description="the fencing token of the lane that has it now")


class DeviceBound(Recorded):
    """A scanner serves another lane from now on: a lane card was scanned with it."""

    device: Id
    lane: Id
    previous: Id
    home: bool = Field(description="brought back to its configured lanes, by the home card")


class PrintFinished(Recorded):
    job: str
    device: Id
    lane: Id | None
    state: str
    proven: bool
