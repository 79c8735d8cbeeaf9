"""Bad input gets a stable problem, is kept with its reason, and selling goes on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import pytest

from bench.gateway import Gateway
from edge.bus import topics
from edge.bus.client import Client
from edge.bus.errors import BusError
from tests.flows.plain_till import PlainTill


def quarantined(running: Gateway) -> list[tuple[str, str]]:
    """(code, reason) of everything in quarantine."""
    with sqlite3.connect(f"file:{running.config.store_db}?mode=ro", uri=True) as db:
        return db.execute("SELECT code, reason FROM quarantine ORDER BY id").fetchall()


async def eventually_quarantined(running: Gateway, code: str, part: str) -> None:
    """Wait until something with this code and this in its reason is on disk (bad input is, within a second)."""
    async with asyncio.timeout(20):
        while not any(found == code and part in reason for found, reason in quarantined(running)):
            await asyncio.sleep(0.05)


def journalled(running: Gateway) -> list[tuple[str, int]]:
    """(type, lane sequence) of what the lanes sent."""
    with sqlite3.connect(f"file:{running.config.store_db}?mode=ro", uri=True) as db:
        return db.execute("SELECT type, lane_seq FROM facts WHERE lane IS NOT NULL ORDER BY row").fetchall()


BAD_FACTS: list[tuple[str, Any, str]] = [
    ("broken JSON", b'{"id": "x", ', "not JSON"),
    ("binary rubbish", bytes(range(256)), "not JSON"),
    ("no object", b"[1, 2]", "not a JSON object"),
    ("wrong types", {"data": {"business_day_date": 7}}, "data.business_day_date"),
    ("wrong source", {"source": "/stores/BENCH/lanes/2"}, "source: must be"),
    ("unknown type", {"type": "acme.thing.v1"}, "is not a fact a till sends"),
    ("sequence is a number", {"sequence": 1}, "sequence: "),
]


@pytest.mark.parametrize(("what", "bad", "reason"), BAD_FACTS, ids=[row[0] for row in BAD_FACTS])
async def test_bad_facts(running: Gateway, till: PlainTill, what: str, bad: Any, reason: str) -> None:
    sent = {**till.sale(1), **bad} if isinstance(bad, dict) else bad
    answer = await till.fact(sent)
    assert answer["problem"]["code"] == "bad_message"
    assert reason in answer["problem"]["detail"]
    good = await till.fact(till.sale(1))
    assert good["ok"], good
    await eventually_quarantined(running, "bad_message", reason)
    assert journalled(running) == [("tillgate.sale.completed.v1", 1)]


async def test_a_fact_that_is_nested_too_deeply_is_refused_for_good(running: Gateway, till: PlainTill) -> None:
    """Not `faulted`: a till would send it again for ever, and nothing behind it."""
    for depth in (260, 900):
        deep: Any = 1
        for _ in range(depth):
            deep = [deep]
        sale = till.sale(1, id=f"deep-{depth}")
        sale["data"]["note"] = deep
        answer = await till.fact(sale)
        assert answer["problem"]["code"] == "bad_message", answer
    await eventually_quarantined(running, "bad_message", "not plain JSON")
    assert (await till.fact(till.sale(1)))["ok"]


async def test_negative_quantity(running: Gateway, till: PlainTill) -> None:
    sale = till.sale(1)
    sale["data"]["lines"][0]["quantity"] = "-1"
    answer = await till.fact(sale)
    assert answer["problem"]["code"] == "bad_message"
    assert "data.lines.0.quantity" in answer["problem"]["detail"]
    await eventually_quarantined(running, "bad_message", "quantity")


async def test_out_of_sequence_is_reported_and_filled(running: Gateway, till: PlainTill) -> None:
    for sequence in (1, 4, 3, 2):
        answer = await till.fact(till.sale(sequence))
        assert answer["ok"], answer
    assert [seq for _, seq in journalled(running)] == [1, 4, 3, 2]
    async with asyncio.timeout(20):
        while True:
            with sqlite3.connect(f"file:{running.config.store_db}?mode=ro", uri=True) as db:
                types = [row[0] for row in db.execute("SELECT type FROM facts WHERE lane IS NULL ORDER BY row")]
                gaps = db.execute("SELECT count(*) FROM lane_gaps").fetchone()[0]
            if types.count("tillgate.lane.gap_found.v1") == 1 and types.count("tillgate.lane.gap_filled.v1") >= 1:
                break
            await asyncio.sleep(0.05)
    assert gaps == 0


async def test_same_fact_again_is_the_same_accepted(running: Gateway, till: PlainTill) -> None:
    sale = till.sale(1)
    first, again = await till.fact(sale), await till.fact(sale)
    assert first == again
    assert len(journalled(running)) == 1


async def test_same_id_or_sequence_with_other_content_keeps_both(running: Gateway, till: PlainTill) -> None:
    sale = till.sale(1)
    assert (await till.fact(sale))["ok"]
    other = json.loads(json.dumps(sale))
    other["data"]["total_minor"] = 1
    by_id = await till.fact(other)
    assert by_id["problem"]["code"] == "conflict"
    by_sequence = await till.fact(till.sale(1))
    assert by_sequence["problem"]["code"] == "conflict"
    assert (await till.fact(other))["problem"] == by_id["problem"]
    assert len(journalled(running)) == 3
    assert (await till.fact(till.sale(2)))["ok"]


async def test_bad_requests(running: Gateway, till: PlainTill) -> None:
    unknown = await till.request("coffee.make", "r1")
    assert unknown["problem"]["code"] == "unknown_operation"
    assert "price.lookup" in unknown["problem"]["detail"]
    wrong = await till.request("price.lookup", "r2", code=7)
    assert wrong["problem"]["code"] == "bad_message"
    assert "parameters.code" in wrong["problem"]["detail"]
    await till.client.publish(topics.lane_request("1", "price.lookup"), b"\x00\xff")
    assert (await till.answer(None))["problem"]["code"] == "bad_message"
    none = await till.request("scale.weigh", "r3")
    assert none["problem"]["code"] == "not_found"
    listed = await till.request("help", "r4")
    assert set(listed["result"]["operations"]) >= {"print", "drawer.open", "scale.weigh", "help"}
    await eventually_quarantined(running, "unknown_operation", "coffee.make")


async def test_a_ten_megabyte_message_hurts_nobody(running: Gateway, till: PlainTill) -> None:
    bully = Client(running.address, client_id="test-bully", username="2", clean_start=True)
    async with bully:
        await bully.wait_connected()
        with pytest.raises((BusError, TimeoutError)):
            async with asyncio.timeout(20):
                await bully.publish(topics.lane_facts("2"), b"x" * 10_000_000)
        assert (await till.fact(till.sale(1)))["ok"]


async def test_a_message_above_the_lane_limit_is_too_large(running: Gateway, till: PlainTill) -> None:
    answer = await till.fact(b'{"id":"big","pad":"' + b"x" * 100_000 + b'"}')
    assert answer["problem"]["code"] == "too_large"
    await eventually_quarantined(running, "too_large", "at most")


async def test_another_lanes_topic_is_out_of_reach(running: Gateway, till: PlainTill) -> None:
    other = PlainTill(running.address, "2")
    async with other.client:
        await other.client.wait_connected()
        payload = json.dumps(other.sale(1)).encode()
        with pytest.raises(BusError):  # the broker's access list says no
            await till.client.publish(topics.lane_facts("2"), payload)
        assert (await other.fact(other.sale(1)))["ok"]
    assert journalled(running) == [("tillgate.sale.completed.v1", 1)]


async def test_the_reply_goes_where_the_till_wants_but_never_to_another_lane(running: Gateway, till: PlainTill) -> None:
    own = f"{topics.ROOT}/lanes/1/replies/own"
    payload = json.dumps({"id": "r1", "parameters": {}}).encode()
    await till.client.publish(topics.lane_request("1", "help"), payload, response_topic=own, correlation=b"c")
    async with asyncio.timeout(20):
        topic, found = await till.heard.get()
    assert (topic, found["to"]) == (own, "r1")
    await till.client.publish(
        topics.lane_request("1", "help"), payload.replace(b"r1", b"r2"), response_topic=topics.lane_replies("2")
    )
    async with asyncio.timeout(20):
        topic, found = await till.heard.get()
    assert (topic, found["to"]) == (topics.lane_replies("1"), "r2")
