"""What no store needs any more is not sent, and goes after its time; what any store may still need stays whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, update

from cloud_bridge.hq import commands, notices, obsolete, price_list
from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.schema import commands_sent, downlink_log, prices_sent
from edge.bus.envelope import now_utc
from edge.bus.messages.links import Need, StreamPosition
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, Mosquitto, a_bridge, a_receiver, scalars, until

TO = Recipient(store=STORE)
KEY = Ed25519PrivateKey.generate()
PAST = "2000-01-01T00:00:00"
NOW = datetime.now(UTC).replace(microsecond=0)


def local(hours: float) -> str:
    """A time on a clock on the wall, so many hours from now by UTC."""
    return (NOW + timedelta(hours=hours)).replace(tzinfo=None).isoformat()


def publish(engine: Engine, version: str, effective_at: str, published_h: float, to: Recipient = TO) -> None:
    """Two messages: a manifest and a chunk."""
    parts = [price_list.Chunk(b"x", 1)]
    manifest = price_list.manifest(to, version, effective_at, "EUR", parts)
    makes = price_list.messages(manifest, parts, KEY)
    Downlog(engine).append(to.scope, "prices", makes, price_list.noted(manifest, len(makes)))
    at = (NOW + timedelta(hours=published_h)).isoformat()
    with engine.begin() as db:
        db.execute(update(prices_sent).where(prices_sent.c.version == version).values(published_at=at))


@pytest.mark.parametrize(
    ("versions", "gone"),
    [
        ([("a", PAST, -9)], []),
        ([("a", PAST, -9), ("b", PAST, -8)], [(1, 2)]),
        ([("a", PAST, -9), ("b", PAST, -8), ("c", PAST, -7)], [(1, 2), (3, 4)]),
        # The next one's time is still to come, at least somewhere: a new store needs both.
        ([("a", PAST, -9), ("b", local(30), -8)], []),
        ([("a", PAST, -9), ("b", local(-1), -8)], []),
        ([("a", PAST, -90), ("b", local(-30), -80)], [(1, 2)]),
        # Planned for a later time, and something published "at once" after it: the planned one takes over.
        ([("a", local(30), -9), ("b", PAST, -8)], []),
        ([("a", local(-30), -90), ("b", PAST, -80)], []),
        ([("a", local(-80), -90), ("b", PAST, -50)], [(1, 2)]),
        ([("a", local(30), -9), ("b", local(30), -8)], [(1, 2)]),  # the same time: the later plan
    ],
)
def test_a_price_version_is_needed_as_long_as_it_may_be_in_force_somewhere(
    hq_file: Engine, versions: list[tuple[str, str, float]], gone: list[tuple[int, int]]
) -> None:
    for version in versions:
        publish(hq_file, *version)
    with hq_file.connect() as db:
        assert obsolete.ranges(db, TO.scope, "prices") == gone
        assert obsolete.ranges(db, "groups/north", "prices") == []


def test_expired_commands_and_notices_that_are_over_or_replaced_go(hq: Engine) -> None:
    for number in range(4):
        commands.give(hq, KEY, TO, "status.report", {}, by="t", lifetime=timedelta(hours=1 + number))
    with hq.begin() as db:
        db.execute(update(commands_sent).where(commands_sent.c.seq.in_([1, 3])).values(expires_at=now_utc()))
    soon, past = (NOW + timedelta(hours=1)).isoformat()[:19] + "Z", "2026-01-01T00:00:00Z"
    for id_, text, until_ in (("a", "one", soon), ("b", "two", past), ("a", "three", soon), ("c", "four", soon)):
        notices.publish(hq, KEY, TO, id_=id_, text=text, level="info", until=until_)
    assert [view.text for view in notices.look(hq)] == ["four", "three"]
    notices.withdraw(hq, KEY, "c")
    log = Downlog(hq)
    with hq.connect() as db:
        assert obsolete.ranges(db, TO.scope, "commands") == [(1, 1), (3, 3)]
        assert obsolete.ranges(db, TO.scope, "notices") == [(1, 1), (2, 2), (4, 4)]
    windows = {window.stream: window.offered for window in log.windows(Need(store=STORE, have={}))}
    assert (windows["commands"].first, windows["commands"].until, windows["commands"].last) == (2, 2, 4)
    assert (windows["notices"].first, windows["notices"].until, windows["notices"].last) == (3, 3, 5)
    assert log.trim(3600) == 0, "younger than that"
    assert log.trim(0) == 5
    left = scalars(hq, downlink_log.c.seq, downlink_log.c.stream == "notices")
    assert left == [3, 5]
    have = {"commands": StreamPosition(epoch=windows["commands"].epoch, seq=2)}
    again = {window.stream: window.offered for window in log.windows(Need(store=STORE, have=have))}
    assert (again["commands"].first, again["commands"].until) == (4, 4)


async def test_a_store_that_was_away_too_long_is_told_to_go_on_behind_what_was_trimmed(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    publish(hq_file, "a", PAST, -9)
    async with a_receiver(hq_file, cloud.port), Edge(config).running() as edge:
        async with a_bridge(config):
            await until(lambda: len(edge.downs) == 2)
        publish(hq_file, "b", PAST, -8)
        publish(hq_file, "c", PAST, -7)
        assert Downlog(hq_file).trim(0) == 4
        async with a_bridge(config):
            await until(lambda: len(edge.downs) == 4)
    newest = [payload for _, payload in Downlog(hq_file).read(TO.scope, "prices", 0, 10)]
    assert edge.downs[2:] == newest
