"""What stores say of themselves at HQ: the newest counts, a last will only for its own connection."""

from __future__ import annotations

import signal
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select

from cloud_bridge.hq import schema
from cloud_bridge.hq.statuses import MAX_STATUS_BYTES, Statuses
from edge.bus import topics
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import StoreStatus
from edge.bus.messages.statuses import Backlog, DeviceStatus, GatewayStatus
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, BridgeProcess, Edge, Mosquitto, a_bridge, a_receiver, scalars, until

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
        status(number=2**63),
        status(connection=2**60),
        (TOPIC, b'{"link":"online","life":"a","connection":1,"number":1' + b"0" * 30 + b"}"),
        status(life="x" * 65),
        status(life="nul \0"),
        status(epoch="e" * 65),
        ("tg/v1/nowhere", status()[1]),
        (f"tg/v1/{'x' * 200}/up/status", status()[1]),
        ("tg/v1/nul\0/up/status", status()[1]),
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


# -- the bridge tells --------------------------------------------------------------------------------------------------


def heard(engine: Engine) -> StoreStatus | None:
    bodies = scalars(engine, schema.store_status.c.body)
    return StoreStatus.model_validate_json(bodies[0]) if bodies else None


def lost(engine: Engine) -> bool:
    return scalars(engine, schema.store_status.c.lost_at) not in ([], [None])


async def test_a_store_says_how_it_is_and_a_killed_bridge_leaves_its_will(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    edge = Edge(configure(cloud.port, '[[devices]]\nid = "d1"\nprotocol = "serial-scanner"\nlanes = ["1"]\n'
                          'transport = { kind = "serial", path = "/dev/null" }\n'))  # fmt: skip
    async with edge.running(), a_receiver(hq_file, cloud.port):
        for device, state in (("d1", "offline"), ("not-configured", "faulted")):
            said = DeviceStatus(device=device, category="scanner", state=state)  # type: ignore[arg-type]
            edge.publish_soon(topics.device_status(device), said.model_dump_json().encode(), retain=True)
        gateway = GatewayStatus(
            state="storage_full", link="online", since="", version="9.8", epoch=edge.store.epoch, lane_gaps=4,
            backlog={FactClass.TELEMETRY: Backlog(facts=0, oldest_s=None, evicted=7)},
        )  # fmt: skip
        edge.publish_soon(topics.GATEWAY_STATUS, gateway.model_dump_json().encode(), retain=True)
        await edge.journal(FactClass.TRANSACTION, 3)
        bridge = BridgeProcess(edge.config.file)
        await bridge.start()
        try:
            await until(lambda: (found := heard(hq_file)) is not None and found.device_faults and found.lane_gaps)
            found = heard(hq_file)
            assert found is not None
            assert (found.state, found.version, found.lane_gaps, found.devices) == ("storage_full", "9.8", 4, 1)
            assert found.device_faults == {"d1": "offline"}
            assert found.classes[FactClass.TRANSACTION].head == 3
            assert found.classes[FactClass.TELEMETRY].evicted == 7
            assert not lost(hq_file)
        finally:
            await bridge.end(signal.SIGKILL)
        await until(lambda: lost(hq_file))
        assert heard(hq_file) == found, "the will says that it is gone, not how it was"


async def test_a_bridge_that_is_stopped_says_so_and_a_new_one_is_heard(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    edge = Edge(configure(cloud.port))
    async with edge.running(), a_receiver(hq_file, cloud.port):
        async with a_bridge(edge.config):
            await until(lambda: heard(hq_file))
            before = heard(hq_file)
        await until(lambda: lost(hq_file))
        async with a_bridge(edge.config):
            await until(lambda: not lost(hq_file))
            assert before is not None
            assert heard(hq_file).life != before.life  # type: ignore[union-attr]


async def test_a_line_that_flaps_counts_connections(hq_file: Engine, cloud: Mosquitto, configure: Configure) -> None:
    edge = Edge(configure(cloud.port))
    async with edge.running(), a_bridge(edge.config):
        async with a_receiver(hq_file, cloud.port):
            await until(lambda: heard(hq_file))
        for connection in (2, 3):
            await cloud.kill()
            await until(lambda: edge.status is not None and edge.status.link == "cloud")
            await cloud.start()
            async with a_receiver(hq_file, cloud.port):
                await until(lambda connection=connection: heard(hq_file).connection == connection)  # type: ignore[misc]
                assert not lost(hq_file)
