"""Every profile against a broker that cuts the connection when a limit of its vendor's is broken: nothing is broken,
and everything is at HQ exactly once.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import fields, replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_bridge import profiles
from cloud_bridge.daemon import serve
from cloud_bridge.hq import keys, price_list, schema
from cloud_bridge.hq.downlog import Downlog, Make, store_scope
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq_link import Unusable
from cloud_bridge.profiles import PROFILES, Profile
from edge.bus import topics
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, a_bridge, a_receiver, at_hq, in_journal, scalars, until
from tests.cloud_bridge.stand_in import StandIn
from tests.cloud_bridge.stand_in_limits import AWS_IOT_CORE, AZURE_EVENT_GRID, EMQX, HIVEMQ_CE, KIB, Limits
from tests.cloud_bridge.stand_in_manners import Ends, facts

VENDORS = {"aws-iot-core": AWS_IOT_CORE, "azure-event-grid": AZURE_EVENT_GRID, "emqx": EMQX, "hivemq-ce": HIVEMQ_CE}

EACH = {
    FactClass.CRITICAL: 40,
    FactClass.TRANSACTION: 1_500,
    FactClass.OPERATION: 400,
    FactClass.ENGAGEMENT: 200,
    FactClass.TELEMETRY: 1_200,
}


def narrowest() -> Limits:
    """A broker that has the worst of everybody, which `safe` must get along with."""
    found: dict[str, object] = {}
    for name in (field.name for field in fields(Limits)):
        values = [getattr(limits, name) for limits in VENDORS.values()]
        given = [value for value in values if value is not None]
        if name == "keep_alive_s":
            found[name] = (max(low for low, _ in given), min(high for _, high in given))
        elif name in ("connect_gap_s", "discards_above_rate", "overflow_ends_session"):
            found[name] = max(given)
        else:
            found[name] = min(given) if given else None
    return Limits(**found)  # type: ignore[arg-type]


def prices(folder: Path, count: int) -> list[Make]:
    """The messages of a price version that does not compress to nothing."""
    draw = random.Random(count)
    keys.make(folder / "hq.key")
    rows = (
        f"{draw.randrange(10**12, 10**13)},{draw.randbytes(40).hex()},{draw.randrange(9999)},each" for _ in range(count)
    )
    (folder / "list.csv").write_text("code,text,price_minor,per\n" + "\n".join(rows) + "\n")
    parts = price_list.chunks(price_list.read(folder / "list.csv"))
    version = price_list.manifest(Recipient(store=STORE), "v1", "2000-01-01T00:00:00", "EUR", parts)
    return price_list.messages(version, parts, keys.load(folder / "hq.key"))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("name", [*VENDORS, "safe"])
async def test_a_drain_breaks_no_limit(
    name: str, protocol: str, hq_file: Engine, configure: Configure, tmp_path: Path
) -> None:
    limits = VENDORS.get(name) or narrowest()
    makes = prices(tmp_path, 4_000)
    Downlog(hq_file).append(store_scope(STORE), "prices", makes)
    async with StandIn(limits).running() as broker:
        config = configure(broker.port, f'profile = "{name}"\nprotocol = "{protocol}"\n')
        async with Edge(config).running() as edge:
            for fact_class, count in EACH.items():
                await edge.journal(fact_class, count - 1, noise_bytes=150)
            async with a_receiver(hq_file, broker.port), a_bridge(config):
                await until(lambda: edge.confirmed(FactClass.TRANSACTION) > 0)
                for fact_class in EACH:
                    await edge.journal(fact_class, 1)
                await until(lambda: edge.status and edge.status.confirmed == EACH)
                await until(lambda: len(set(edge.downs)) == len(makes))
            assert at_hq(hq_file) == await in_journal(edge.store)
        assert broker.broken == []
    assert len(edge.downs) == len(set(edge.downs)) > 3
    assert scalars(hq_file, schema.heads.c.duplicates) == [0] * len(EACH)


def scaled(monkeypatch: pytest.MonkeyPatch, name: str, **row: object) -> None:
    monkeypatch.setitem(profiles.PROFILES, name, replace(PROFILES[name], **row))  # type: ignore[arg-type]


async def test_a_narrow_broker_is_not_overrun(
    hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small packets, small windows, few publishes and few bytes a second: all of them at once, and slowly answered."""
    limits = replace(
        narrowest(),
        packet_bytes=6 * KIB,
        receive_maximum=4,
        in_flight_bytes=10 * KIB,
        publishes_per_s=100,
        bytes_per_s=200 * KIB,
    )
    scaled(monkeypatch, "safe", packet_bytes=5 * KIB, in_flight_bytes=10 * KIB, bytes_per_s=160 * KIB)
    async with StandIn(limits, ack_after_s=0.03).running() as broker:
        config = configure(broker.port, 'profile = "safe"\n')
        async with Edge(config).running() as edge:
            await asyncio.gather(*(edge.journal(one, count // 2, noise_bytes=150) for one, count in EACH.items()))
            async with a_receiver(hq_file, broker.port), a_bridge(config):
                await until(lambda: edge.status and sum(edge.status.confirmed.values()) == sum(EACH.values()) // 2)
            assert at_hq(hq_file) == await in_journal(edge.store)
        assert broker.broken == []


@pytest.mark.parametrize("name", VENDORS)
async def test_single_events_keep_the_rate(name: str, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message per fact is where a rate of publishes bites."""
    limits = replace(VENDORS[name], publishes_per_s=250, receive_maximum=20)
    scaled(monkeypatch, name, publishes_per_s=200, in_flight=16)
    async with StandIn(limits).running() as broker:
        config = configure(broker.port, f'profile = "{name}"\nwire = "single"\nconfirm = "broker"\n')
        async with Edge(config).running() as edge:
            await edge.journal(FactClass.TRANSACTION, 600, noise_bytes=100)
            await edge.journal(FactClass.CRITICAL, 20)
            async with a_bridge(config):
                await until(lambda: edge.confirmed() == 600 and edge.confirmed(FactClass.CRITICAL) == 20)
            bodies = [body.encode() for _, _, body in await in_journal(edge.store)]
        assert broker.broken == []
        assert sorted(message.payload for _, message in broker.received if facts(message)) == sorted(bodies)


@pytest.mark.parametrize("name", [*VENDORS, "safe"])
async def test_a_store_in_many_groups_subscribes_in_portions(name: str, configure: Configure) -> None:
    limits = VENDORS.get(name) or narrowest()
    groups = ", ".join(f'"group-{number}"' for number in range(30))
    async with StandIn(limits).running() as broker:
        config = configure(broker.port, f'profile = "{name}"\ngroups = [{groups}]\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")
            link = broker.link(STORE)
            assert link is not None
            assert len(link.session.filters) == 32
        assert broker.broken == []


async def test_more_groups_than_the_broker_allows_are_refused_with_a_reason(configure: Configure) -> None:
    groups = ", ".join(f'"group-{number}"' for number in range(49))
    config = configure(1, f'profile = "aws-iot-core"\ngroups = [{groups}]\n')
    with pytest.raises(Unusable, match="49 groups make 51 subscriptions; the profile 'aws-iot-core' allows 50"):
        await serve(config, asyncio.Event())


@pytest.mark.parametrize("name", PROFILES)
def test_the_longest_names_fit_every_broker(name: str) -> None:
    """Ids have at most 64 characters of ASCII, so no topic can break a limit: that is checked here and once."""
    longest = "x" * 64
    made = [
        topics.up(longest, longest),
        topics.up_need(longest),
        topics.confirmed(longest),
        topics.down(longest, longest),
        topics.down_any(longest),
        topics.group_down(longest, longest),
        topics.group_down_any(longest),
        topics.HQ_UP_SHARED,
    ]
    for topic in made:
        assert len(topic) <= PROFILES[name].topic_bytes
        assert topic.count("/") <= PROFILES[name].topic_slashes


@pytest.mark.parametrize("name", [*VENDORS, "safe"])
def test_a_row_stays_below_what_its_vendor_allows(name: str) -> None:
    row, vendor = PROFILES[name], VENDORS.get(name) or narrowest()

    def below(ours: float | None, theirs: float | None) -> bool:
        return theirs is None or (ours is not None and ours <= theirs)

    assert below(row.packet_bytes, vendor.packet_bytes)
    assert below(row.packet_bytes + profiles.ASIDE_BYTES, vendor.in_flight_bytes)
    assert below(row.in_flight, vendor.receive_maximum)
    assert below(row.in_flight_bytes, vendor.in_flight_bytes)
    assert below(row.publishes_per_s and row.publishes_per_s * 1.25, vendor.publishes_per_s)
    assert below(row.bytes_per_s and row.bytes_per_s * 1.25, vendor.bytes_per_s)
    assert row.connect_gap_s >= vendor.connect_gap_s
    assert below(row.filters_per_subscribe, vendor.filters_per_subscribe)
    assert below(row.subscriptions, vendor.subscriptions)
    assert row.keepalive_s <= vendor.keep_alive_s[1]
    assert row.topic_bytes <= vendor.topic_bytes


def test_safe_is_inside_every_row() -> None:
    safe = PROFILES["safe"]

    def at_most(name: str, row: Profile) -> bool:
        ours, theirs = getattr(safe, name), getattr(row, name)
        return theirs is None or (ours is not None and ours <= theirs)

    for row in PROFILES.values():
        for name in ("packet_bytes", "in_flight", "in_flight_bytes", "publishes_per_s", "filters_per_subscribe"):
            assert at_most(name, row), (name, row.name)
        assert at_most("subscriptions", row)
        assert safe.connect_gap_s >= row.connect_gap_s
        assert row.silent_s * 1.25 <= 10


async def test_attempts_keep_their_distance_however_often_the_broker_ends_the_connection(
    hq_file: Engine, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(AWS_IOT_CORE, connect_gap_s=0.4)
    scaled(monkeypatch, "aws-iot-core", connect_gap_s=0.6, retry_from_s=0.05, retry_to_s=0.2)
    async with StandIn(limits).running() as broker:
        broker.treat(STORE, Ends(0x8B, every=2, times=4))
        config = configure(broker.port, 'profile = "aws-iot-core"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            for fact_class in EACH:
                await edge.journal(fact_class, 20, noise_bytes=150)
            await until(lambda: edge.status and edge.status.confirmed == dict.fromkeys(EACH, 20))
            assert at_hq(hq_file) == await in_journal(edge.store)
        assert len([who for who, _ in broker.attempts if who == STORE]) > 1
        assert broker.broken == []
