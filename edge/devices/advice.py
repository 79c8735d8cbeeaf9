"""What a person should do, said in one line, for every reason a device can give.

The reasons are the stable codes of `drivers.errors.NotReady`; they also open the detail of a `not_ready` problem.
"""

from __future__ import annotations

from drivers.events import PrinterStatus

_PLEASE = {
    "paper_out": "Put in a new roll",
    "cover_open": "Close the cover",
    "printer_error_ribbon": "Put in a new ribbon",
    "printer_error_cutter": "Open the cover, clear the knife, close the cover",
    "printer_error_recoverable": "Wait a little: the print head is too hot",
    "printer_error_unrecoverable": "Switch the printer off and on; call service if that does not help",
    "printer_offline": "Press the printer's feed button, or switch it off and on",
    "over": "Take something off the scale",
    "under_zero": "Clear the plate and zero the scale",
    "in_motion": "Let the goods come to rest",
    "busy": "Wait a moment; the scale is busy",
    "no_weight": "Clear the plate and weigh again",
    "below_minimum": "Put more on the scale",
    "out_of_range": "Clear the plate and zero the scale: there is too much on it, or less than nothing",
    "not_moved": "Lift the goods and put them back",
    "unchanged": "Lift the goods and put them back",
    "needs_zero": "Clear the plate and zero the scale",
    "needs_calibration": "Call service: the scale must be calibrated",
    "needs_price": "Set unit_price of the scale to a price that it takes",
    "needs_checksum": "Set polynomial of the scale to the constant that its maker gives",
    "device_fault": "Switch the scale off and on; call service if that does not help",
    "refused": "Clear the plate, let it come to rest and try again",
    "unsupported": "Use the scale's own keys: it does not do this from here",
    "not_drained": "Switch the printer off and on: it takes no more",
    "no_proof": "Look at the paper: the printer did not say whether it printed",
}

_AT_DEVICE = {
    "no_answer": "Switch {device} on, and check its cable: it does not answer",
    "garbled": "Check the cable and the line settings of {device}: what it says makes no sense",
    "lost": "Check the cable and power of {device}",
}

SCALE_STUCK = frozenset(
    {
        "over",
        "under_zero",
        "out_of_range",
        "needs_zero",
        "needs_calibration",
        "needs_price",
        "needs_checksum",
        "device_fault",
    }
)
"""What keeps a scale from weighing until a person does something; all else passes by itself or with the next goods."""


def please(device: str, reason: str) -> str:
    """What a person should do about `reason` at `device`; never empty."""
    return _PLEASE.get(reason) or _AT_DEVICE.get(reason, _AT_DEVICE["lost"]).format(device=device)


def printer_please(device: str, status: PrinterStatus) -> str:
    """The same from a printer's own words; empty when nothing needs doing."""
    if status.reason is not None:
        return please(device, status.reason)
    return "Have a new roll ready" if status.paper == "near_end" else ""


def printer_detail(status: PrinterStatus) -> dict[str, str | bool | None]:
    """A printer's words as they stand in its status; None and "unknown" are what it has not said."""
    return {
        "online": status.online,
        "cover_open": status.cover_open,
        "paper": status.paper,
        "error": status.error,
    }
