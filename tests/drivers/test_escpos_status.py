"""What printers send back, byte by byte: which question a reply answers, and what is never taken for what."""

from __future__ import annotations

import pytest

from drivers.events import DrawerStatus, Noise, PrinterStatus
from drivers.printers.escpos_status import EscposStatus

READY = b"\x12\x12\x12\x12"
NO_PAPER = b"\x1a\x32\x12\x7e"
"""n=1 offline, n=2 stopped by paper end, n=3 no error, n=4 near end and end."""


def asked() -> EscposStatus:
    status = EscposStatus()
    assert status.asking() == b"\x10\x04\x01\x10\x04\x02\x10\x04\x03\x10\x04\x04"
    return status


def test_nothing_came_back_is_unknown_and_not_no_paper() -> None:
    status = asked()
    status.stop_expecting()
    assert status.status == PrinterStatus(None, None, "unknown", "unknown", b"")
    assert status.status.reason is None


def test_four_replies_answer_four_questions() -> None:
    status = asked()
    events = status.receive(NO_PAPER)
    assert isinstance(events[0], DrawerStatus)
    assert (status.status.online, status.status.paper, status.status.reason) == (False, "end", "paper_out")
    assert not status.expecting


@pytest.mark.parametrize("late", [1, 2, 3, 4])
def test_late_replies_are_never_taken_for_the_answer(late: int) -> None:
    """The end of an old answer (near end, in b2 and b3) would say "cover open" to the question of the cover."""
    status = asked()
    status.receive(NO_PAPER[: 4 - late])
    status.stop_expecting()
    status.asking()
    assert [type(event) for event in status.receive(NO_PAPER[4 - late :] + READY[: 4 - late])] == []
    assert status.expecting
    status.receive(READY[4 - late :])
    assert not status.expecting
    assert status.status == PrinterStatus(True, False, "ok", None, b"", False)


def test_replies_that_were_lost_are_not_waited_for() -> None:
    status = asked()
    status.receive(NO_PAPER[:1])
    status.stop_expecting()
    status.asking()
    assert not status.receive(READY)
    assert status.pending  # silence will tell
    assert any(isinstance(event, PrinterStatus) for event in status.idle())
    assert not status.pending
    assert status.status.paper == "ok"


def test_late_replies_that_come_before_the_next_question() -> None:
    status = asked()
    status.stop_expecting()
    assert not status.receive(NO_PAPER)  # owed, so no noise; given up, so no answer
    status.asking()
    status.receive(READY)
    assert status.status.paper == "ok"
    assert [type(event) for event in status.receive(b"\x12")] == [Noise]


def test_automatic_status_comes_between_late_replies() -> None:
    status = asked()
    status.receive(READY[:2])
    status.stop_expecting()
    status.asking()
    status.receive(READY[:1] + b"\x18\x00\x0f\x0f" + READY[:3])
    assert status.status.paper == "end"
    status.receive(READY[:2])
    assert status.status.paper == "ok"


@pytest.mark.parametrize(
    ("byte", "reason"),
    [(0x18, None), (0x38, "paper_out"), (0x00, None), (0x10, "printer_offline"), (0x30, "paper_out")],
)
def test_a_usb_port_is_believed_when_it_has_bad_news(byte: int, reason: str | None) -> None:
    status = EscposStatus()
    (event,) = status.port(byte)
    assert isinstance(event, PrinterStatus)
    assert event.reason == reason
    assert event.paper == ("end" if byte & 0x20 else "unknown")
