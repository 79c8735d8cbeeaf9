"""The till library against a real broker, with a small gateway at the other end written from the bus's description."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.bus import discovery, topics
from edge.bus.address import Address, TlsFiles
from edge.bus.broker import BrokerProcess, BrokerSettings
from edge.bus.client import Backoff, Client, Message
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import DrawerClosed, SaleVoided
from edge.bus.messages.replies import Code, ProblemError
from edge.till import Refused, Rejection, Till, outbox
from edge.till.ledger import FactState

STORE, LANE = "1042", "lane-3"
WITHIN_S = 90.0


def voided(number: int, reason: str = "wrong item") -> SaleVoided:
    return SaleVoided(business_day_date="2026-05-04", operator_id="op-1", receipt_number=f"r-{number}", reason=reason)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.01)


class Gateway:
    """Accepts facts, answers requests, and can be away, silent or full."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._client: Client | None = None
        self.arrived: list[dict[str, Any]] = []
        self.recorded: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.presence: dict[str, Any] = {}
        self.refuse: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda event: None
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda operation, request: {"ok": True}
        self.silent = False

    async def come(self) -> None:
        client = Client(topics_address(self._socket), client_id="gateway", clean_start=True, backoff=Backoff(0.05, 0.2))
        client.on_message(topics.LANE_FACTS_ANY, self._fact)
        client.on_message(topics.LANE_REQUESTS_ANY, self._request)
        client.on_message(topics.LANE_PRESENCE_ANY, self._present)
        self._client = await client.__aenter__()
        await self._client.wait_connected()
        await self.say("serving")

    async def go(self) -> None:
        await self.say("stopped")
        await self.close()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None

    async def say(self, state: str) -> None:
        status = {"state": state, "link": "online", "since": now_utc(), "price_version": "v1", "from_the_future": 1}
        await self.publish(topics.GATEWAY_STATUS, status, retain=True)

    async def publish(self, topic: str, table: dict[str, Any], *, retain: bool = False) -> None:
        assert self._client is not None
        await self._client.publish(topic, orjson.dumps(table), retain=retain)

    def sequences(self) -> list[int]:
        return [int(event["sequence"]) for event in self.recorded.values()]

    def _fact(self, message: Message) -> None:
        message.ack()
        event = orjson.loads(message.payload)
        self.arrived.append(event)
        if self.silent:
            return
        problem = self.refuse(event)
        if problem is not None:
            self._reply({"to": event["id"], "ok": False, "problem": {"title": "", **problem}})
            return
        self.recorded.setdefault(event["id"], event)
        result = {"accepted": True, "class": "transaction", "seq": len(self.recorded), "epoch": "e"}
        self._reply({"to": event["id"], "ok": True, "result": result})

    def _request(self, message: Message) -> None:
        message.ack()
        request, operation = orjson.loads(message.payload), topics.operation_of(message.topic)
        self.requests.append((operation, request))
        result = None if self.silent else self.answer(operation, request)
        if result is None:
            return
        if "problem" in result:
            self._reply({"to": request["id"], "ok": False, "problem": {"title": "", **result["problem"]}})
        else:
            self._reply({"to": request["id"], "ok": True, "result": result})

    def _present(self, message: Message) -> None:
        message.ack()
        self.presence = orjson.loads(message.payload)

    def _reply(self, table: dict[str, Any]) -> None:
        assert self._client is not None
        self._client.publish_soon(topics.lane_replies(LANE), orjson.dumps(table))


def topics_address(socket: Path) -> Address:
    return Address(socket=socket)


class Rig:
    """A broker, a gateway, and tills of one lane."""

    def __init__(self, broker: BrokerProcess, gateway: Gateway, port: int, folder: Path) -> None:
        self.broker, self.gateway, self.port, self.folder = broker, gateway, port, folder

    def till(self, **options: Any) -> Till:
        options.setdefault("address", f"127.0.0.1:{self.port}")
        return Till(store=STORE, lane=LANE, ledger_path=self.folder / "till.db", app="test", version="7", **options)


@pytest.fixture
async def rig(tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(Client, "default_backoff", Backoff(0.05, 0.3))
    port = free_port()
    settings = BrokerSettings(tmp_path, tmp_path / "b.sock", plain_port=port)
    broker, gateway = BrokerProcess(settings), Gateway(settings.socket)
    async with AsyncExitStack() as stack:
        await broker.start()
        stack.push_async_callback(broker.stop)
        await gateway.come()
        stack.push_async_callback(gateway.close)
        yield Rig(broker, gateway, port, tmp_path)


def test_a_till_with_trust_is_never_told_to_speak_plainly(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it never speaks plainly"):
        Till(store=STORE, lane=LANE, ledger_path=tmp_path / "t", address=Address(host="gateway"), tls=TlsFiles())


# -- facts -------------------------------------------------------------------------------------------------------------


async def test_facts_are_accepted_in_order_and_known_in_the_ledger(rig: Rig) -> None:
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        pending = [await till.fact(voided(number)) for number in range(20)]
        accepted = [await one.accepted() for one in pending]
        await till.all_answered()
        assert (await till.ledger.count())[FactState.ACCEPTED] == 20
    assert [one.seq for one in accepted] == list(range(1, 21))
    assert accepted[0].epoch == "e"
    assert rig.gateway.sequences() == list(range(1, 21))
    assert {event["source"] for event in rig.gateway.arrived} == {"/stores/1042/lanes/lane-3"}


async def test_a_till_sells_on_without_a_gateway_and_replays_in_order(rig: Rig) -> None:
    seen: list[bool] = []
    async with rig.till(on_gateway=seen.append) as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.gateway_online)
        await rig.gateway.go()
        await until(lambda: not till.gateway_online)
        for number in range(50):
            await till.fact(voided(number))
        assert (await till.ledger.count())[FactState.PENDING] == 50
        await rig.gateway.come()
        await till.all_answered()
    assert rig.gateway.sequences() == list(range(1, 51))
    assert seen == [True, False, True]


async def test_a_till_sells_without_any_broker_and_its_next_life_sends_everything(rig: Rig) -> None:
    await rig.gateway.close()
    await rig.broker.stop()
    async with rig.till() as till:
        for number in range(5):
            await till.fact(voided(number))
    await rig.broker.start()
    await rig.gateway.come()
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await (await till.fact(voided(6))).accepted()
        await till.all_answered()
    assert rig.gateway.sequences() == [1, 2, 3, 4, 5, 6]


async def test_a_broker_killed_and_restarted_loses_and_doubles_nothing(rig: Rig) -> None:
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        for number in range(60):
            await till.fact(voided(number))
            if number in (20, 40):
                assert rig.broker.pid is not None
                os.kill(rig.broker.pid, signal.SIGKILL)
                await rig.broker.stop()
                await rig.broker.start()
        await until(lambda: len(rig.gateway.recorded) == 60)
        await rig.gateway.say("serving")
        await till.all_answered()
    assert sorted(rig.gateway.sequences()) == list(range(1, 61))


async def test_without_an_answer_the_same_bytes_come_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "REPLY_S", 0.2)
    rig.gateway.silent = True
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        pending = await till.fact(voided(1))
        await until(lambda: len(rig.gateway.arrived) >= 3)
        rig.gateway.silent = False
        await pending.accepted()
    assert all(event == rig.gateway.arrived[0] for event in rig.gateway.arrived)
    assert len(rig.gateway.recorded) == 1


@pytest.mark.parametrize("code", ["storage_full", "too_fast", "something_new"])
async def test_a_fact_that_cannot_be_taken_now_is_kept_and_sent_again(rig: Rig, code: str) -> None:
    times = 0

    def full(event: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal times
        times += 1
        return {"code": code, "retry_after_ms": 50} if times <= 3 else None

    rig.gateway.refuse = full
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        for number in range(3):
            await till.fact(voided(number))
        await till.all_answered()
        assert (await till.ledger.count())[FactState.ACCEPTED] == 3
    assert sorted(rig.gateway.sequences()) == [1, 2, 3]


async def test_a_refused_fact_is_kept_told_and_passed_by(rig: Rig) -> None:
    told: list[Refused] = []
    rig.gateway.refuse = lambda event: (
        {"code": "conflict", "detail": "same id"} if event["data"]["receipt_number"] == "r-1" else None
    )
    async with rig.till(on_refused=told.append) as till, asyncio.timeout(WITHIN_S):
        first, second = await till.fact(voided(1)), await till.fact(voided(2))
        await second.accepted()
        with pytest.raises(ProblemError, match="conflict: same id"):
            await first.accepted()
        count = await till.ledger.count()
    assert count == {FactState.PENDING: 0, FactState.ACCEPTED: 1, FactState.REFUSED: 1}
    assert [one.fact.sequence for one in told] == [1]


async def test_what_is_no_tills_fact_is_refused_at_once(rig: Rig) -> None:
    async with rig.till() as till:
        with pytest.raises(ValueError, match="DrawerClosed is not a fact a till reports"):
            await till.fact(DrawerClosed(device="d", lane=None, open_ms=None))
        with pytest.raises(ValueError, match="record it in parts"):
            await till.fact(SaleVoided.model_construct(reason="x" * 300_000))
        assert till.ledger.last_sequence == 0


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_a_request_gets_its_result_or_its_problem(rig: Rig) -> None:
    rig.gateway.answer = lambda operation, request: (
        {"value": "0.482"} if operation == "scale.weigh" else {"problem": {"code": "not_ready", "detail": "paper out"}}
    )
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        assert await till.request("scale.weigh") == {"value": "0.482"}
        with pytest.raises(ProblemError) as caught:
            await till.request("print", {"document": []})
    assert (caught.value.code, caught.value.detail) == (Code.NOT_READY, "paper out")


async def test_a_request_in_hand_when_the_gateway_dies_is_asked_again_with_its_id(rig: Rig) -> None:
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.gateway_online)
        rig.gateway.silent = True
        asking = asyncio.create_task(till.request("drawer.open", {"reason": "change"}, deadline_ms=20_000))
        await until(lambda: len(rig.gateway.requests) == 1)
        await rig.gateway.go()
        await until(lambda: not till.gateway_online)
        rig.gateway.silent = False
        await rig.gateway.come()
        assert await asking == {"ok": True}
    first, again = (request for _, request in rig.gateway.requests[:2])
    assert first["id"] == again["id"]
    assert first["parameters"] == again["parameters"]
    assert again["deadline_ms"] <= first["deadline_ms"]


async def test_a_request_without_an_answer_ends_at_its_deadline(rig: Rig) -> None:
    rig.gateway.silent = True
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        with pytest.raises(ProblemError) as caught:
            await till.request("scale.weigh", deadline_ms=300)
        assert caught.value.code is Code.TIMED_OUT
        await rig.gateway.go()
        await until(lambda: not till.gateway_online)
        with pytest.raises(ProblemError, match="the gateway is away"):
            await till.request("scale.weigh", deadline_ms=100)


async def test_a_request_says_who_asks_and_a_log_in_is_not_repeated_by_itself(rig: Rig) -> None:
    rig.gateway.answer = lambda operation, request: (
        {"problem": {"code": "too_fast", "retry_after_ms": 10}} if operation == "person.log_in" else {"done": True}
    )
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await till.request("drawer.open", {"reason": "change"}, session="s-1", grant="g-1")
        with pytest.raises(ProblemError) as caught:
            await till.request("person.log_in", {"person": "anna", "password": "482617"})
    assert caught.value.code is Code.TOO_FAST
    (_, first), (_, second) = rig.gateway.requests
    assert (first["session"], first["grant"], first["parameters"]) == ("s-1", "g-1", {"reason": "change"})
    assert "session" not in second


async def test_a_request_that_came_too_fast_waits_and_succeeds(rig: Rig) -> None:
    rig.gateway.answer = lambda operation, request: (
        {"problem": {"code": "too_fast", "retry_after_ms": 30}} if len(rig.gateway.requests) < 3 else {"done": True}
    )
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        assert await till.request("help") == {"done": True}
    assert len({request["id"] for _, request in rig.gateway.requests}) == 1


# -- scans, prices, presence -------------------------------------------------------------------------------------------


def scan(counter: int) -> dict[str, Any]:
    return {
        "scan_id": f"s-{counter}",
        "counter": counter,
        "text": "2110101012345",
        "symbology": "]E0",
        "gtin": None,
        "gs1": None,
        "embedded": {"item": "2110101", "price_minor": 1234, "weight": None, "unit": None},
        "captured_at": now_utc(),
        "device": "scanner-1",
    }


async def test_scans_arrive_once_with_what_is_inside_them(rig: Rig) -> None:
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.connected)
        for counter in (1, 1, 2, 5):
            await rig.gateway.publish(topics.lane_scans(LANE), scan(counter))
        got = []
        async for one in till.scans():
            got.append(one)
            if one.counter == 5:
                break
    assert [(one.counter, one.missed) for one in got] == [(1, 0), (2, 0), (5, 2)]
    assert (got[0].item, got[0].price_minor) == ("2110101", 1234)
    assert till.scan_counts.repeated == 1


async def test_what_is_scanned_and_not_delivered_is_told(rig: Rig) -> None:
    told: list[Rejection] = []
    table = {
        "code": "cut_off",
        "reason": "cut off",
        "please": "Scan it again",
        "device": "s-1",
        "captured_at": now_utc(),
    }
    async with rig.till(on_rejected_scan=told.append) as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.connected)
        await rig.gateway.publish(topics.lane_rejected(LANE), {})
        await rig.gateway.publish(topics.lane_rejected(LANE), table)
        await until(lambda: bool(told))
    assert told == [Rejection("cut_off", "cut off", "Scan it again", "s-1")]
    assert (till.scan_counts.rejected, till.scan_counts.unreadable) == (1, 1)


async def test_prices_are_remembered_for_when_the_gateway_is_away(rig: Rig) -> None:
    item = {"code": "4711", "text": "Pencil", "price_minor": 129, "per": "each", "currency": "EUR", "version": "v1"}
    rig.gateway.answer = lambda operation, request: (
        item if request["parameters"]["code"] == "4711" else {"problem": {"code": "not_found"}}
    )
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.gateway_online)
        assert (await till.price("4711", deadline_ms=60_000)).confidence == "confirmed"
        with pytest.raises(ProblemError, match="not_found"):
            await till.price("0815", deadline_ms=60_000)
    await rig.gateway.go()
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        price = await till.price("4711")
        assert (price.price_minor, price.text, price.confidence) == (129, "Pencil", "local")
        with pytest.raises(ProblemError, match="the gateway is away"):
            await till.price("0815")


@pytest.mark.parametrize("protocol", [4, 5])
async def test_presence_tells_who_is_there_and_that_it_left(rig: Rig, protocol: int) -> None:
    async with rig.till(protocol=protocol) as till, asyncio.timeout(WITHIN_S):
        await (await till.fact(voided(1))).accepted()
        await until(lambda: rig.gateway.presence.get("online") is True)
        assert rig.gateway.presence["app"] == "test"
        assert rig.gateway.presence["version"] == "7"
    await until(lambda: rig.gateway.presence.get("online") is False)
    assert rig.gateway.presence["last_sequence"] == 1


async def test_the_gateway_is_found_by_mdns(rig: Rig) -> None:
    async with (
        discovery.advertise(STORE, rig.port, tls=False, host="127.0.0.1", interfaces=["127.0.0.1"]),
        rig.till(address=None, interfaces=["127.0.0.1"]) as till,
        asyncio.timeout(WITHIN_S),
    ):
        await (await till.fact(voided(1))).accepted()
        assert await till.ledger.noted("gateway") == f"mqtt://127.0.0.1:{rig.port}"


async def test_nonsense_from_the_bus_does_no_harm(rig: Rig) -> None:
    async with rig.till() as till, asyncio.timeout(WITHIN_S):
        await until(lambda: till.gateway_online)
        for table in ({}, {"to": None, "ok": False, "problem": {"code": "bad_message"}}, {"to": "x", "ok": 1}):
            await rig.gateway.publish(topics.lane_replies(LANE), table)
        assert rig.gateway._client is not None
        for payload in (b"", b"\xff", b"[1]", b'"x"'):
            await rig.gateway._client.publish(topics.lane_replies(LANE), payload)
            await rig.gateway._client.publish(topics.lane_scans(LANE), payload)
        await (await till.fact(voided(1))).accepted()
