"""Cloud brokers that misbehave: nothing is lost, nothing twice, little is sent again, and the status says what it is.

Each way of misbehaving is a class of `tests/cloud_bridge/stand_in_manners.py`; timing is made short and never asserted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from cloud_bridge import policy, refusals
from cloud_bridge.hq import schema
from cloud_bridge.profiles import PROFILES
from edge.bus import client
from edge.bus.messages.facts import FactClass
from edge.config import StoreConfig
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, a_bridge, a_receiver, at_hq, in_journal, scalars, until
from tests.cloud_bridge.stand_in import Manners, StandIn
from tests.cloud_bridge.stand_in_manners import (
    AcksBackwards,
    AcksLate,
    AcksTwice,
    CutsOnSize,
    Ends,
    Forgets,
    Freezes,
    NeverAcks,
    Refuses,
    RefusesSubscriptions,
    RefusesTopic,
    Repeats,
    Says,
    Silent,
    facts,
    of_class,
)

EACH = {
    FactClass.CRITICAL: 10,
    FactClass.TRANSACTION: 200,
    FactClass.OPERATION: 60,
    FactClass.ENGAGEMENT: 30,
    FactClass.TELEMETRY: 300,
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of minutes last moments here."""
    monkeypatch.setattr(policy, "CONFIRM_WITHIN_S", 1.0)
    monkeypatch.setattr(policy, "RESEND_TO_S", 2.0)
    monkeypatch.setattr(policy, "THINNEST_BYTES_PER_S", 200_000)
    monkeypatch.setattr(refusals, "HOLD_FROM_S", 0.2)
    monkeypatch.setattr(refusals, "HOLD_TO_S", 2.0)
    monkeypatch.setattr(refusals, "CRITICAL_HOLD_S", 1.0)
    monkeypatch.setattr("cloud_bridge.hindrance.OVERRUN_FROM_S", 0.5)
    quick = replace(PROFILES["mosquitto"], packet_bytes=8 * 1024, retry_from_s=0.05, retry_to_s=0.3)
    monkeypatch.setitem(PROFILES, "mosquitto", quick)


async def fill(edge: Edge) -> None:
    await asyncio.gather(*(edge.journal(fact_class, count, noise_bytes=150) for fact_class, count in EACH.items()))


def everything(edge: Edge) -> bool:
    return edge.status is not None and edge.status.confirmed == EACH


def sent(broker: StandIn) -> int:
    """Bytes of facts that the store has sent."""
    return sum(message.size for who, message in broker.received if who == STORE and facts(message))


async def drained(config: StoreConfig, broker: StandIn, hq: Engine, *, well: bool = True) -> int:
    """Everything to HQ and confirmed, once, and all `well` in the end; how many bytes the facts took."""
    async with Edge(config).running() as edge:
        await fill(edge)
        async with a_receiver(hq, broker.port), a_bridge(config):
            await until(lambda: everything(edge))
            if well:
                await until(lambda: edge.status and edge.status.link == "online" and not edge.status.detail)
        assert at_hq(hq) == await in_journal(edge.store)
    return sent(broker)


USUAL_BYTES = 450 * sum(EACH.values())
"""About what the same facts take on a broker that behaves, bodies as they are."""

PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@PROTOCOLS
@pytest.mark.parametrize(
    "manners",
    [
        lambda: Repeats(2),
        lambda: AcksLate(0.3),
        AcksTwice,
        AcksBackwards,
        lambda: Says(receive_maximum=1),
        lambda: Says(maximum_packet_size=3_000),
        lambda: Says(server_keep_alive=1),
        lambda: Says(shared_available=0),
        lambda: Forgets(times=5),
    ],
    ids=[
        "twice",
        "acks-late",
        "acks-twice",
        "acks-backwards",
        "window-1",
        "small-packets",
        "keep-alive",
        "no-share",
        "forgets-5",
    ],
)
async def test_odd_manners_change_nothing(
    manners: Callable[[], Manners], protocol: str, hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, manners())
        size = await drained(configure(broker.port, f'protocol = "{protocol}"\n'), broker, hq_file)
        assert broker.broken == []
        assert size < 3 * USUAL_BYTES
        assert len([who for who, _ in broker.attempts if who == STORE]) == 1


@PROTOCOLS
@pytest.mark.parametrize("code", [None, 0x8B, 0x8E, 0x93, 0x95, 0x97, 0x98])
async def test_a_broker_that_ends_the_connection_in_the_middle_of_a_drain(
    code: int | None, protocol: str, hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, Ends(code, every=4, times=3))
        size = await drained(configure(broker.port, f'protocol = "{protocol}"\n'), broker, hq_file, well=code != 0x95)
        assert broker.broken == []
        assert size < 3 * USUAL_BYTES


@PROTOCOLS
async def test_a_broker_that_accepts_and_forgets(protocol: str, hq_file: Engine, configure: Configure) -> None:
    """Every PUBACK is a lie. Little is sent again meanwhile, and the status calls no such link online."""
    async with StandIn().running() as broker:
        forgets = Forgets()
        broker.treat(STORE, forgets)
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            await until(lambda: edge.status and edge.status.link == "cloud")
            assert edge.status is not None
            assert "HQ does not confirm" in edge.status.detail
            until_now = forgets.forgotten
            times = len(EACH)
            await until(
                lambda: forgets.forgotten >= until_now + times
            )  # it goes on trying, a batch of each class at a time
            window = [message for who, message in broker.received if who == STORE and facts(message)][until_now:]
            assert sum(message.size for message in window) <= (times + len(EACH)) * 8 * 1024
            assert edge.confirmed() == 0
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))
            await until(lambda: edge.status and edge.status.link == "online" and not edge.status.detail)
            assert at_hq(hq_file) == await in_journal(edge.store)


@PROTOCOLS
@pytest.mark.parametrize("refused", [FactClass.TELEMETRY, FactClass.CRITICAL])
async def test_a_topic_that_is_refused_holds_up_no_other(
    refused: FactClass, protocol: str, hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        manners = RefusesTopic(of_class(refused.value))
        broker.treat(STORE, manners)
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            rest = {fact_class: count for fact_class, count in EACH.items() if fact_class is not refused}
            await until(lambda: edge.status and edge.status.confirmed == rest)
            await until(lambda: any(f"{refused.value} facts; they are kept" in one.detail for one in edge.statuses))
            assert edge.status is not None
            assert edge.status.parked == 0
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))
            await until(lambda: edge.status and edge.status.link == "online" and not edge.status.detail)
            assert at_hq(hq_file) == await in_journal(edge.store)
        assert manners.refused < 40


@PROTOCOLS
@pytest.mark.parametrize("code", [None, 0x95])
async def test_a_broker_that_closes_on_size_and_never_said_so(
    code: int | None, protocol: str, hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "mosquitto", replace(PROFILES["mosquitto"], packet_bytes=64 * 1024))
    async with StandIn().running() as broker:
        manners = CutsOnSize(10_000, code)
        broker.treat(STORE, manners)
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port):
            await fill(edge)
            await edge.journal(FactClass.CRITICAL, 90, noise_bytes=400)  # these go as one packet, however thin the line
            async with a_bridge(config):
                await until(lambda: edge.status and edge.status.confirmed == {**EACH, FactClass.CRITICAL: 100})
                await until(lambda: edge.status and "takes no packets above" in edge.status.detail)
                assert edge.status is not None
                assert edge.status.parked == 0
            assert at_hq(hq_file) == await in_journal(edge.store)
        assert 0 < manners.cuts < 20


@PROTOCOLS
async def test_a_fact_that_no_packet_can_hold_is_parked_and_the_rest_flows(
    protocol: str, hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "mosquitto", replace(PROFILES["mosquitto"], packet_bytes=64 * 1024))
    async with StandIn().running() as broker:
        broker.treat(STORE, CutsOnSize(10_000))
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await edge.journal(FactClass.TRANSACTION, 1, noise_bytes=30_000)
            await edge.journal(FactClass.TRANSACTION, 20)
            await until(lambda: edge.confirmed() == 21)
            await until(lambda: edge.status and edge.status.parked == 1)
    assert [seq for _, seq, _ in at_hq(hq_file)] == list(range(2, 22))
    assert scalars(hq_file, schema.gone.c.why) == ["omitted"]


@PROTOCOLS
@pytest.mark.parametrize("swallows", [False, True], ids=["routes", "swallows"])
async def test_a_broker_that_never_acknowledges(
    swallows: bool, protocol: str, hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers pings, so that the line looks alive."""
    monkeypatch.setattr(policy, "ACK_WITHIN_S", 0.5)
    async with StandIn().running() as broker:
        manners = NeverAcks(swallows=swallows)
        broker.treat(STORE, manners)
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            await until(lambda: edge.status and edge.status.link == "cloud")
            await until(lambda: len([who for who, _ in broker.attempts if who == STORE]) >= 3)
            if swallows:
                assert edge.confirmed() == 0
                assert edge.status is not None
                assert edge.status.link != "online"
            assert manners.got <= 4 * PROFILES["mosquitto"].in_flight
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))
            await until(lambda: edge.status and edge.status.link == "online" and not edge.status.detail)
            assert at_hq(hq_file) == await in_journal(edge.store)


@PROTOCOLS
@pytest.mark.parametrize(
    ("code", "word"),
    [(0x86, "user name"), (0x87, "authorized"), (0x88, "unavailable"), (0x89, "busy"), (0x97, "uota"), (0x9F, "rate")],
)
async def test_a_connection_that_is_refused(
    code: int, word: str, protocol: str, hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, Refuses(code))
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            await until(lambda: edge.status and edge.status.link == "cloud")
            assert edge.status is not None
            assert "refused the connection" in edge.status.detail
            if protocol == "5":
                assert word in edge.status.detail.lower()
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))
            await until(lambda: edge.status and edge.status.link == "online")
            assert at_hq(hq_file) == await in_journal(edge.store)


@PROTOCOLS
@pytest.mark.parametrize("manners", [Silent, lambda: Freezes(2)], ids=["after-connect", "in-mid-drain"])
async def test_a_broker_that_falls_silent(
    manners: Callable[[], Manners], protocol: str, hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, manners())
        config = configure(broker.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            await until(lambda: edge.status and edge.status.link in ("wan", "cloud"))
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))
            await until(lambda: edge.status and edge.status.link == "online")
            assert at_hq(hq_file) == await in_journal(edge.store)


async def test_where_there_are_no_wildcards_the_status_says_that_nothing_comes_down(
    hq_file: Engine, configure: Configure
) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, Says(wildcard_available=0))
        config = configure(broker.port)
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await fill(edge)
            await until(lambda: everything(edge))
            await until(lambda: edge.status and "nothing of HQ's comes down there" in edge.status.detail)
            assert at_hq(hq_file) == await in_journal(edge.store)


@pytest.mark.parametrize("manners", [Forgets, Repeats, AcksBackwards, lambda: Ends(0x98, every=2, times=3)])
@pytest.mark.parametrize("wire", ["batch", "single"])
async def test_where_the_broker_confirms_its_word_is_all_there_is(
    manners: Callable[[], Manners], wire: str, configure: Configure
) -> None:
    """`confirm = "broker"`: what it says it has counts as delivered, and the status says whose word that is."""
    async with StandIn().running() as broker:
        broker.treat(STORE, manners())
        config = configure(broker.port, f'wire = "{wire}"\nconfirm = "broker"\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await fill(edge)
            await until(lambda: everything(edge))
            assert edge.status is not None
            assert edge.status.confirm == "broker"
            if wire == "single":
                told = {message.payload.decode() for _, message in broker.received if facts(message)}
                assert told == {body for _, _, body in await in_journal(edge.store)}


@PROTOCOLS
async def test_single_events_pass_a_topic_that_is_refused(protocol: str, configure: Configure) -> None:
    async with StandIn().running() as broker:
        broker.treat(STORE, RefusesTopic(of_class("operation")))
        config = configure(broker.port, f'protocol = "{protocol}"\nwire = "single"\nconfirm = "broker"\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await fill(edge)
            rest = {fact_class: count for fact_class, count in EACH.items() if fact_class is not FactClass.OPERATION}
            await until(lambda: edge.status and edge.status.confirmed == rest)
            broker.treat(STORE, Manners())
            await until(lambda: everything(edge))


@PROTOCOLS
@pytest.mark.parametrize(("who", "part"), [("hq", "/up/"), (STORE, "/confirmed")])
async def test_a_subscription_that_was_refused_for_a_moment_is_asked_for_again(
    who: str, part: str, protocol: str, hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HQ's or the store's: the connection stays, and nobody sits on it deaf for ever."""
    monkeypatch.setattr(client, "ASK_AGAIN_S", 0.2)
    manners = RefusesSubscriptions(part, 2)
    async with StandIn().running() as broker:
        broker.treat(who, manners)
        await drained(configure(broker.port, f'protocol = "{protocol}"\n'), broker, hq_file)
        assert not manners.times
        assert len([one for one, _ in broker.attempts if one == who]) == 1, "on the connection that it had"
