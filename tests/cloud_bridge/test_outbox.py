"""What leaves next, by the table: no network, time given by hand."""

from __future__ import annotations

from typing import get_args

import pytest

from cloud_bridge import policy
from cloud_bridge.outbox import Flight, Outbox
from cloud_bridge.pace import Bucket, Budget
from cloud_bridge.profiles import LINES, PROFILES
from edge.bus.messages.facts import FACTS, FactClass
from edge.config_cloud import CloudProfile

C, T, O, E, M = FactClass  # noqa: E741 - the five classes in their order


def an_outbox(**changed: object) -> Outbox:
    """On a line that is known to carry a gigabyte a second."""
    outbox = Outbox(**{"in_flight": 100, "packet_bytes": 1000, "bulk_in_flight": 100, **changed})  # type: ignore[arg-type]
    outbox.connected(-10.0)
    outbox.first_word()
    outbox.flow.acked(outbox.flow.sent(1_000_000, 0.0), 0.001)
    return outbox


def send(outbox: Outbox, fact_class: FactClass, count: int = 1, size: int = 1000, now: float = 1.0) -> Flight:
    track = outbox.tracks[fact_class]
    return outbox.sent(fact_class, track.sent + 1, track.sent + count, b"h" * 32, size, now)


def drain(outbox: Outbox, batches: int, now: float = 1.0) -> list[FactClass]:
    order = []
    for _ in range(batches):
        choice = outbox.choose(now)
        assert isinstance(choice, FactClass)
        order.append(choice)
        outbox.acked(send(outbox, choice, now=now), now)
        outbox.confirm({choice: outbox.tracks[choice].sent}, now)
    return order


def test_critical_is_always_next() -> None:
    outbox = an_outbox()
    outbox.see_heads({M: 1000, T: 1000, C: 3}, 0.0)
    assert drain(outbox, 3) == [C, C, C]
    outbox.see_heads({C: 4}, 1.0)
    assert outbox.choose(1.0) is C


def test_the_rest_share_by_weight_and_none_starves() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 10_000, O: 10_000, E: 10_000, M: 10_000}, 0.0)
    order = drain(outbox, 270)
    shares = {fact_class: order.count(fact_class) for fact_class in (T, O, E, M)}
    for fact_class, share in shares.items():
        weight = policy.POLICY[fact_class].weight
        assert weight is not None
        assert share == pytest.approx(270 * weight / 27, abs=2)


def test_a_class_that_was_quiet_gets_no_credit_for_it() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 10_000}, 0.0)
    drain(outbox, 500)
    outbox.see_heads({M: 10_000}, 1.0)
    order = drain(outbox, 34, now=2.0)
    assert order.count(M) <= 4


def test_few_bulk_batches_are_out_and_critical_has_room_beside_them() -> None:
    outbox = an_outbox(in_flight=10, bulk_in_flight=4)
    outbox.see_heads({M: 1000}, 0.0)
    for _ in range(4):
        assert outbox.choose(1.0) is M
        send(outbox, M)
    assert outbox.choose(1.0) is None
    outbox.see_heads({C: 10}, 1.0)
    for _ in range(6):
        assert outbox.choose(1.0) is C
        send(outbox, C)
    assert outbox.choose(1.0) is None, "the window of the broker is full"


def test_a_critical_fact_overtakes_the_bulk_batch_that_is_being_packed_and_may_take_its_room() -> None:
    outbox = an_outbox(in_flight=3, bulk_in_flight=2)
    outbox.see_heads({M: 1000, C: 1}, 0.0)
    first = send(outbox, C)
    assert outbox.choose(1.0) is M
    assert outbox.choose(1.0, packing=True) is None, "one at a time"
    outbox.see_heads({C: 3}, 1.0)
    for _ in range(2):
        assert outbox.choose(1.0, packing=True) is C
        assert outbox.may_leave(100, 1.0)
        send(outbox, C)
    assert not outbox.may_leave(100, 1.0), "the window of the broker is full"
    outbox.acked(first, 1.1)
    assert outbox.may_leave(100, 1.1)


def test_what_stays_here_tells_nothing_of_the_line() -> None:
    outbox = an_outbox()
    known = outbox.flow.rate_bytes_s
    flight = send(outbox, M, size=100_000_000)
    outbox.stays(flight)
    outbox.acked(flight, 1.0)
    assert (outbox.flow.rate_bytes_s, outbox.flow.out_bytes) == (known, 0)
    assert outbox.room == 100


def test_a_window_of_one_still_moves() -> None:
    outbox = an_outbox(in_flight=1)
    outbox.see_heads({M: 2}, 0.0)
    flight = send(outbox, M)
    assert outbox.choose(1.0) is None
    outbox.acked(flight, 1.0)
    assert outbox.choose(1.1) is M


def test_a_window_in_bytes_is_kept() -> None:
    outbox = an_outbox(in_flight_bytes=3500)
    outbox.see_heads({M: 10}, 0.0)
    first = send(outbox, M, size=1000)
    assert outbox.choose(1.1) is M
    send(outbox, M, size=1000)
    assert outbox.choose(1.1) is None
    outbox.acked(first, 1.1)
    assert outbox.choose(1.1) is M


def test_a_window_in_bytes_has_room_for_several_batches_of_a_thin_line_and_for_none_that_does_not_fit() -> None:
    outbox = Outbox(in_flight=10, in_flight_bytes=60_000, packet_bytes=56_000)
    outbox.connected(-10.0)
    outbox.first_word()
    outbox.flow.acked(outbox.flow.sent(10_000, 0.0), 0.04)  # 250,000 bytes a second
    outbox.see_heads({M: 10_000}, 0.0)
    assert outbox.fits(56_000), "nothing is out"
    first = send(outbox, M, size=7_000)
    send(outbox, M, size=7_000)
    assert outbox.choose(1.1) is M, "a largest packet would not fit, a batch of this line does"
    assert outbox.fits(40_000)
    assert not outbox.fits(50_000)
    assert outbox.choose(1.1) is None, "what comes next is too large for what is left"
    outbox.acked(first, 1.1)
    assert outbox.choose(1.1) is M
    assert outbox.fits(50_000)


def test_a_batch_that_is_not_full_waits_a_moment_and_a_critical_fact_does_not() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 1}, 5.0)
    assert outbox.choose(5.0) == pytest.approx(0.05)
    assert outbox.choose(5.06) is T
    outbox.see_heads({C: 1}, 5.0)
    assert outbox.choose(5.0) is C


def test_sending_runs_ahead_of_hq_only_so_far() -> None:
    outbox = an_outbox(packet_bytes=100)
    outbox.see_heads({M: 10_000}, 0.0)
    for _ in range(policy.AHEAD_BATCHES):
        assert outbox.choose(1.0) is M
        outbox.acked(send(outbox, M, size=10), 1.0)
    assert outbox.choose(2.0) is None
    outbox.confirm({M: 1}, 2.0)
    assert outbox.choose(2.1) is M


def test_an_hq_that_has_not_spoken_gets_little() -> None:
    outbox = Outbox(in_flight=100, packet_bytes=100)
    outbox.connected(0.0)
    outbox.see_heads({M: 10_000}, 0.0)
    assert outbox.choose(0.5) == pytest.approx(0.5), "it is asked first"
    for _ in range(policy.UNHEARD_BATCHES):
        assert outbox.choose(2.0) is M
        outbox.acked(send(outbox, M), 2.0)
    assert outbox.choose(2.0) is None
    outbox.first_word()
    assert outbox.tracks[M].sent == 0, "what left before may have met nobody"


def test_silence_of_hq_sends_again_later_and_later() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 10}, 0.0)
    now, waits = 1.0, []
    for _ in range(8):
        outbox.acked(send(outbox, T, 10, now=now), now)
        assert outbox.silent(now) == []
        wait = outbox.silent_in_s(now)
        assert wait is not None
        waits.append(wait)
        now += wait + 0.001
        assert outbox.silent(now) == [T]
        outbox.rewind([T])
        assert outbox.tracks[T].sent == 0
    assert waits[0] == policy.CONFIRM_WITHIN_S
    assert max(waits) <= policy.CONFIRM_WITHIN_S + policy.RESEND_TO_S
    outbox.acked(send(outbox, T, 10, now=now), now)
    outbox.confirm({T: 10}, now)
    assert outbox.silent_in_s(now) is None


def test_a_class_that_is_stuck_is_sent_again_while_others_flow() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 100, M: 10}, 0.0)
    outbox.acked(send(outbox, M, 10, now=0.0), 0.0)
    for now in range(1, 20):
        outbox.acked(send(outbox, T, 1, now=now), now)
        outbox.confirm({T: now}, now)
    assert outbox.silent(19.0) == [M]


def test_hq_is_asked_what_it_has_and_what_it_has_not_got_is_sent_again() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 100, M: 10}, 0.0)
    first = send(outbox, T, 10, now=0.0)
    assert outbox.ask_in_s(5.0) is None  # the broker has not taken it: that is not HQ's affair
    outbox.acked(first, 1.0)
    outbox.acked(send(outbox, T, 10, now=1.0), 1.1)
    assert outbox.ask_in_s(1.0) == policy.LATE_S
    assert outbox.lost([T], 1.0 + policy.LATE_S - 0.1) == []  # another receiver may still be at it
    assert outbox.ask_in_s(1.0 + policy.LATE_S) == 0.0
    outbox.asked(4.0)
    assert outbox.ask_in_s(4.0) == 2 * policy.LATE_S  # no answer: with more patience
    assert outbox.lost([T], 4.05) == [T]
    outbox.rewind([T])
    assert outbox.tracks[T].sent == 0
    outbox.acked(send(outbox, T, 20, now=4.6), 4.6)
    outbox.confirm({T: 20}, 5.0)
    assert outbox.ask_in_s(5.0) is None


def test_a_batch_whose_acknowledgement_is_lost_counts_as_taken_once_a_later_one_is() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 100, M: 10}, 0.0)
    send(outbox, M, 10, now=0.0)
    outbox.acked(send(outbox, T, 10, now=0.1), 0.2)
    outbox.confirm({T: 10}, 0.3)
    assert outbox.ask_in_s(0.3) == pytest.approx(policy.LATE_S - 0.1)
    assert outbox.lost([M], 0.2 + policy.LATE_S) == [M]


def test_what_hq_gets_and_never_takes_is_sent_again_less_and_less_often_while_others_flow() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 100_000, M: 10}, 0.0)
    outbox.acked(send(outbox, M, 10, now=0.0), 0.0)
    resent = asked = 0
    for now in range(1, 3_600):
        outbox.acked(send(outbox, T, 1, now=now), now)
        outbox.confirm({T: now}, now)
        if outbox.ask_in_s(now) == 0.0:
            outbox.asked(now)
            asked += 1
            if outbox.lost([M], now):
                outbox.rewind([M])
                outbox.acked(send(outbox, M, 10, now=now), now)
                resent += 1
    assert 7 < resent < 25
    assert asked == resent


def test_confirmation_is_never_believed_beyond_the_journal() -> None:
    outbox = an_outbox()
    outbox.see_heads({T: 10}, 0.0)
    outbox.confirm({T: 500}, 1.0)
    assert outbox.confirmed == {T: 10}
    outbox.see_heads({T: 11}, 1.0)
    assert outbox.choose(2.0) is T


def test_a_broker_that_confirms_does_so_in_order() -> None:
    outbox = an_outbox(confirmed_by_broker=True)
    outbox.see_heads({T: 30}, 0.0)
    first, second, third = (send(outbox, T, 10) for _ in range(3))
    assert not outbox.acked(second, 1.0)
    assert outbox.acked(first, 1.0)
    assert outbox.confirmed == {T: 20}
    outbox.dropped(third)
    assert outbox.tracks[T].sent == 20


def test_a_broker_narrows_its_profile_and_never_widens_it() -> None:
    outbox = an_outbox(in_flight=10, packet_bytes=64_000)
    outbox.narrow(3, 1_000)
    assert (outbox.in_flight, outbox.packet_bytes) == (3, 1_000)
    outbox.narrow(65_535, None)
    assert (outbox.in_flight, outbox.packet_bytes) == (10, 64_000)


def test_the_hours_budget_holds_back_everything_but_critical_facts() -> None:
    outbox = an_outbox(budget=Budget(bytes_per_hour=40_000))
    outbox.see_heads({C: 10, T: 10, M: 10}, 0.0)
    outbox.acked(send(outbox, C, 1, now=1.0), 1.0)
    outbox.acked(send(outbox, T, 1, size=50_000, now=1.0), 1.0)
    assert outbox.choose(1.0) is C, "a critical fact does not wait"
    outbox.acked(send(outbox, C, 9, now=1.0), 1.0)
    wait = outbox.choose(2.0)
    assert isinstance(wait, float)
    assert wait == pytest.approx(outbox.budget_wait_s(2.0))
    assert wait > 10


def test_a_bucket_lets_through_its_rate() -> None:
    bucket = Bucket(rate_per_s=10, burst=5)
    now, left = 0.0, 0
    while now < 10:
        wait = bucket.wait_s(now)
        if wait == 0:
            bucket.spend(1, now)
            left += 1
        now += max(wait, 0.001)
    assert 100 <= left <= 107


def test_the_tables_are_whole() -> None:
    assert set(policy.POLICY) == set(FactClass)
    assert set(policy.COALESCE) <= set(FACTS)
    assert policy.POLICY[C].weight is None
    assert PROFILES["safe"].packet_bytes <= min(row.packet_bytes for row in PROFILES.values())
    assert set(LINES) == {"fibre", "lte"}
    for row in PROFILES.values():
        assert row.silent_s * 1.25 <= 10, "a dead line is to be noticed within 10 s"
    assert set(PROFILES) == set(get_args(CloudProfile)), "what the configuration takes is what the table has"
