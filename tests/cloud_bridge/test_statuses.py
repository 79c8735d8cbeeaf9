"""What stores say of themselves at HQ: the newest counts, a last will only for its own connection."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select

from cloud_bridge.hq import schema
from cloud_bridge.hq.statuses import MAX_STATUS_BYTES, Statuses
from edge.bus import topics
from tests.cloud_bridge.rig import STORE, Mosquitto, a_receiver, scalars, until

TOPIC = topics.up_status(STORE)


def status(link: str = "online", life: str = "a", connection: int = 1, **more: Any) -> tuple[str, bytes]:
    return TOPIC, orjson.dumps({"link": link, "life": life, "connection": connection, **more})


def kept(engine: Engine) -> dict[str, Any]:
    with engine.connect() as db:
        row = dict(db.execute(select(schema.store_status)).mappings().one())
    return row | orjson.loads(row["body"])


def test_within_a_life_the_highest_number_counts(hq: Engine) -> None:
    statuses = Statuses(hq)
    assert statuses.take([status(number=2, version="two"), status(number=1, version="one")], "t1") == []
    assert kept(hq)["version"] == "two"
    statuses.take([status(number=3, version="three")], "t2")
    assert (kept(hq)["version"], kept(hq)["heard_at"]) == ("three", "t2")
    statuses.take([status(life="b", number=1, version="restarted")], "t3")
    assert kept(hq)["version"] == "restarted"


def test_a_will_counts_for_its_own_connection_only(hq: Engine) -> None:
    statuses = Statuses(hq)
    statuses.take([status("unknown")], "t0")
    assert scalars(hq, schema.store_status.c.store) == [], "a will of a store never heard of says nothing"
    statuses.take([status(number=1, version="1")], "t1")
    statuses.take([status("unknown", connection=0), status("unknown", life="z")], "t2")
    assert kept(hq)["lost_at"] is None
    statuses.take([status("unknown")], "t3")
    assert (kept(hq)["lost_at"], kept(hq)["heard_at"], kept(hq)["version"]) == ("t3", "t1", "1")
    statuses.take([status(connection=2, number=2)], "t4")
    statuses.take([status("unknown")], "t5")
    assert kept(hq)["lost_at"] is None, "the will of the connection before came late"


def test_what_cannot_be_read_is_told_and_the_rest_recorded(hq: Engine) -> None:
    far_future = {"a_key_of_a_newer_store": 1, "classes": {"critical": {"head": 1, "more": 2}}}
    bad = [
        (TOPIC, b"\xff"),
        (TOPIC, b"[]"),
        (TOPIC, b'{"link":"online","life":"a"}'),
        status(trouble="x" * MAX_STATUS_BYTES),
        status(trouble="nul \0"),
        ("tg/v1/nowhere", status()[1]),
    ]
    found = Statuses(hq).take([*bad, status(**far_future)])
    assert [(topic, payload) for topic, payload, _ in found] == bad
    assert all(reason for *_, reason in found)
    assert kept(hq)["a_key_of_a_newer_store"] == 1


async def test_the_receiver_tells_statuses_from_facts(hq_file: Engine, cloud: Mosquitto) -> None:
    from edge.bus.client import Address, Client

    client = Client(Address(host="127.0.0.1", port=cloud.port), client_id="a store", clean_start=True)
    async with a_receiver(hq_file, cloud.port), client:
        await client.wait_connected()
        await client.publish(TOPIC, b"no status")
        await client.publish(*status(number=1, epoch="e1"))
        await until(lambda: scalars(hq_file, schema.epochs_heard.c.epoch) == ["e1"])
        assert await until(lambda: scalars(hq_file, schema.rejected.c.payload)) == [b"no status"]
        assert scalars(hq_file, schema.rejected.c.alarm) == [False]


@pytest.mark.parametrize("epochs", [("e1", "e2", "e1")])
def test_every_epoch_that_is_heard_of_is_noted(hq: Engine, epochs: tuple[str, ...]) -> None:
    statuses = Statuses(hq)
    for number, epoch in enumerate(epochs, start=1):
        statuses.take([status(number=number, epoch=epoch)], f"t{number}")
    heard = schema.epochs_heard
    with hq.connect() as db:
        rows = db.execute(select(heard.c.epoch, heard.c.first_at, heard.c.last_at).order_by(heard.c.epoch)).all()
    assert [tuple(row) for row in rows] == [("e1", "t1", "t3"), ("e2", "t2", "t2")]
