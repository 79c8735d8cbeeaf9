"""The few errors a driver raises; each says what happens next.

Unreadable bytes that nobody waits for are not errors but `events.Noise`; `Garbled` is for a caller who asked.
"""

from __future__ import annotations


class DriverError(Exception):
    """Base of all errors of this package."""


class DeviceLost(DriverError):
    """The device cannot be reached (unplugged, refused, switched off). Reopen it with backoff.

    `started` is True when bytes of a print job may already have left: such a job must not go to another
    printer.
    """

    def __init__(self, message: str, *, started: bool = False) -> None:
        super().__init__(message)
        self.started = started


class NotReady(DriverError):
    """The device is there and cannot do it now: tell a person.

    `reason` is a stable code. Of scales: "in_motion", "over", "under_zero", "no_answer", "unchanged" (it says nothing
    while the weight stays the same), "unsupported" (it has no such command), and those of `events.ScaleFault`. Of
    printers: "no_answer", "cover_open", "paper_out", "printer_error_cutter", "printer_error_ribbon",
    "printer_error_recoverable", "printer_error_unrecoverable", "printer_offline", "not_drained" (it takes no more
    bytes), "no_proof" (everything left, nothing came back). `started` as in `DeviceLost`.
    """

    def __init__(self, reason: str, message: str, *, started: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.started = started


class Garbled(DriverError):
    """The device answered only with rubbish. Count it and ask again; check cable and line settings."""

    reason = "garbled"


class WrongDevice(DriverError):
    """What is there is not what was configured. Stop this device: a person must correct the configuration."""


class BadOption(DriverError):
    """A device or transport was configured with a key or value that it does not have.

    `key` is the offending key, `expected` says what would be right.
    """

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"{key}: {expected}")
        self.key = key
        self.expected = expected


class BadDocument(DriverError):
    """A document cannot be printed as written; `element` is the index (from 0) of the element at fault."""

    def __init__(self, element: int, message: str) -> None:
        super().__init__(f"element {element}: {message}")
        self.element = element
