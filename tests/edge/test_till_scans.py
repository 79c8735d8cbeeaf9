"""Scans at the till: once, in order, only while fresh."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from edge.till.scans import Rejection, ScanInbox

GATEWAY_DAY = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


class Hands:
    """A till's clock that is set by hand, and a gateway that sends scans by its own clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.gateway_offset_s = 0.0
        self.inbox = ScanInbox(3.0, monotonic=lambda: self.now_s)
        self.counter = 0

    def send(self, *, travelled_s: float = 0.0, counter: int | None = None, scan_id: str | None = None) -> str:
        self.counter = counter if counter is not None else self.counter + 1
        scan_id = scan_id or f"scan-{self.now_s}-{self.counter}"
        captured = GATEWAY_DAY + timedelta(seconds=self.now_s - travelled_s + self.gateway_offset_s)
        message = {
            "scan_id": scan_id,
            "counter": self.counter,
            "text": "4006381333931",
            "symbology": "]E0",
            "gtin": "04006381333931",
            "captured_at": captured.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "device": "scanner-1",
            "from_a_newer_gateway": True,
        }
        self.inbox.receive(orjson.dumps(message))
        return scan_id

    async def take(self) -> str | None:
        """The id of the next fresh scan, or None when there is none now."""
        next_ = asyncio.ensure_future(self.inbox.next())
        await asyncio.sleep(0)
        if next_.done():
            return next_.result().scan_id
        next_.cancel()
        return None


async def test_scans_come_in_order_and_once() -> None:
    hands = Hands()
    first = hands.send()
    hands.send(counter=1, scan_id=first)
    second = hands.send()
    assert [await hands.take(), await hands.take(), await hands.take()] == [first, second, None]
    assert hands.inbox.counts.repeated == 1


async def test_a_scan_that_waited_too_long_is_never_handed_out() -> None:
    hands = Hands()
    hands.send()
    hands.now_s += 3.5
    fresh = hands.send()
    assert await hands.take() == fresh
    assert hands.inbox.counts.stale == 1


async def test_late_scans_of_a_stalled_network_are_dropped_and_the_next_one_is_not() -> None:
    hands = Hands()
    hands.send()
    assert await hands.take() is not None
    hands.now_s += 60
    hands.send(travelled_s=10)
    hands.send(travelled_s=8)
    hands.send(travelled_s=4)
    assert await hands.take() is None
    hands.now_s += 5
    assert hands.send() == await hands.take()


@pytest.mark.parametrize("step_s", [-3600.0, -30.0, 30.0, 3600.0])
async def test_a_gateway_clock_that_is_set_does_not_stop_the_scanning(step_s: float) -> None:
    hands = Hands()
    hands.send()
    await hands.take()
    hands.gateway_offset_s = step_s
    taken = []
    for _ in range(4):
        hands.now_s += 2
        hands.send()
        taken.append(await hands.take())
    assert None not in taken[2:]


@pytest.mark.parametrize("till_is_wrong_by_s", [-86400.0, 0.0, 86400.0])
async def test_a_till_with_a_wrong_clock_scans(till_is_wrong_by_s: float) -> None:
    hands = Hands()
    hands.gateway_offset_s = till_is_wrong_by_s
    assert hands.send() == await hands.take()
    hands.now_s += 1
    assert hands.send() == await hands.take()


async def test_a_hole_in_the_counter_is_reported_and_a_restart_is_none() -> None:
    hands = Hands()
    hands.send(counter=4)
    hands.send(counter=7)
    scans = [await hands.inbox.next(), await hands.inbox.next()]
    assert [scan.missed for scan in scans] == [0, 2]
    hands.send(counter=1)
    assert (await hands.inbox.next()).missed == 0
    assert hands.inbox.counts.missed == 2


async def test_what_cannot_be_read_is_counted_and_does_no_harm() -> None:
    hands = Hands()
    for payload in (b"", b"\xff\x00", b"[]", b"{}", b'"text"', b'{"scan_id":"a","counter":"x","captured_at":"now"}'):
        hands.inbox.receive(payload)
    assert hands.inbox.counts.unreadable == 6
    assert hands.send() == await hands.take()


async def test_scans_between_two_customers_are_discarded() -> None:
    hands = Hands()
    hands.send()
    hands.send()
    assert hands.inbox.discard() == 2
    assert await hands.take() is None


async def test_what_is_not_delivered_is_told() -> None:
    hands = Hands()
    table = {"code": "check_digit", "reason": "wrong", "please": "Scan it again", "device": "s-1", "captured_at": "x"}
    told = hands.inbox.receive_rejected(orjson.dumps(table))
    assert told == Rejection("check_digit", "wrong", "Scan it again", "s-1")
    for broken in (b"[]", b"{}", b"{", b"7"):
        assert hands.inbox.receive_rejected(broken) is None
    assert (hands.inbox.counts.rejected, hands.inbox.counts.unreadable) == (1, 4)
    assert await hands.take() is None
