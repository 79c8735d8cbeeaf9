"""Which class the broker does not take, found out from connections that it closed without a word."""

from __future__ import annotations

from cloud_bridge.outbox import Flight
from cloud_bridge.refusals import CRITICAL_HOLD_S, HOLD_TO_S, SMALLEST_BYTES, Refusals
from edge.bus.messages.facts import FactClass

C, T, M = FactClass.CRITICAL, FactClass.TRANSACTION, FactClass.TELEMETRY
NOW = 100.0


def batch(fact_class: FactClass, size_bytes: int = 30_000, facts: int = 50) -> Flight:
    return Flight(fact_class, 1, facts, b"", size_bytes, NOW, None)


def one(fact_class: FactClass, size_bytes: int = 500) -> Flight:
    return batch(fact_class, size_bytes, 1)


def test_an_accident_accuses_nobody() -> None:
    found = Refusals()
    found.closed([batch(C), batch(T), batch(M)], None, NOW)
    assert not found.careful
    found.taken(batch(T))
    found.closed([batch(T)], None, NOW)
    assert not found.careful
    assert found.words == ""


def test_the_innocent_are_acquitted_and_the_guilty_class_waits() -> None:
    found = Refusals()
    for _ in range(2):
        found.closed([batch(T), batch(M)], None, NOW)
    assert found.careful
    found.taken(batch(T))
    assert found.careful
    found.closed([batch(M)], None, NOW)
    assert found.one_fact(M)
    assert not found.one_fact(T)
    found.closed([one(M)], None, NOW)
    assert found.wait_s(M, NOW) > 0
    assert found.wait_s(T, NOW) == 0
    assert "closes the connection on telemetry" in found.words
    assert found.packet_bytes is None, "a small packet was refused too: it is not the size"
    found.taken(one(M))
    assert (found.words, found.careful, found.wait_s(M, NOW), found.packet_bytes) == ("", False, 0, None)


def test_a_small_packet_that_passes_shows_that_it_was_the_size() -> None:
    found = Refusals()
    for _ in range(3):
        found.closed([batch(M, 60_000)], None, NOW)
    found.taken(one(M))
    assert found.packet_bytes == 30_000
    found.closed([batch(T, 29_000)], None, NOW)  # still too large
    assert found.packet_bytes == 14_500
    found.taken(batch(T, 14_000))
    assert not found.careful
    assert "14500" in found.words


def test_a_single_large_fact_is_left_out_and_then_its_stand_in_accused() -> None:
    found = Refusals()
    for _ in range(4):
        found.closed([one(T, 40_000)], None, NOW)
    assert found.packet_bytes == 30_000
    assert found.wait_s(T, NOW) == 0
    found.closed([one(T, 300)], None, NOW)
    assert found.wait_s(T, NOW) > 0


def test_a_reason_is_believed_at_once() -> None:
    found = Refusals()
    found.closed([batch(T, 60_000), batch(M, 20_000)], 0x95, NOW)
    assert found.packet_bytes == 45_000
    assert not found.careful
    for _ in range(20):
        found.too_large(100)
    assert found.packet_bytes == SMALLEST_BYTES


def test_a_class_that_is_refused_waits_longer_each_time_and_a_critical_one_never_long() -> None:
    found, now, waits = Refusals(), NOW, []
    for _ in range(8):
        found.refused(M, "not authorized", now)
        found.refused(M, "not authorized", now)  # the rest of the volley counts no more
        found.refused(C, "not authorized", now)
        assert found.wait_s(C, now) <= CRITICAL_HOLD_S
        waits.append(found.wait_s(M, now))
        now += waits[-1]
    assert waits == sorted(waits)
    assert waits[0] < waits[1] < waits[-1] == HOLD_TO_S
    assert "refuses (not authorized" in found.words
