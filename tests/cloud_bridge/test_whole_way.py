"""The whole way with the real edge: a till's sale to HQ over a cut line, and HQ's prices to the till."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from bench.gateway import gateway, lanes_toml
from cloud_bridge.hq import keys, price_list, schema
from cloud_bridge.hq.downlog import Downlog, store_scope
from cloud_bridge.hq.recipients import Recipient
from demo.wan import Wan
from edge.bus import topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.prices import PriceNotice
from edge.bus.messages.statuses import GatewayStatus
from tests.cloud_bridge.rig import Mosquitto, a_bridge, a_receiver, scalars, until
from tests.flows.plain_till import PlainTill

LIST = "code,text,price_minor,per\n4006381333931,Textmarker gelb,129,each\n2100010,Bananas,199,kg\n"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "list.csv"
    file.write_text(LIST)
    return file


async def test_a_sale_goes_up_and_prices_come_down(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, prices: Path
) -> None:
    public = keys.make(tmp_path / "hq.key")
    statuses: list[GatewayStatus] = []
    notices: list[PriceNotice] = []

    def on_status(message: Message) -> None:
        statuses.append(GatewayStatus.model_validate_json(message.payload))
        message.ack()

    def on_notice(message: Message) -> None:
        notices.append(PriceNotice.model_validate_json(message.payload))
        message.ack()

    async with Wan(cloud.port) as wan:
        cloud_toml = f'[cloud]\nhost = "127.0.0.1"\nport = {wan.port}\nprofile = "mosquitto"\nprice_key = "{public}"\n'
        async with gateway(lanes_toml(1) + cloud_toml) as at:
            till = PlainTill(at.address, "1")
            till.client.on_message(topics.GATEWAY_STATUS, on_status)
            till.client.on_message(topics.STORE_ANY, on_notice)
            async with a_receiver(hq_file, cloud.port), a_bridge(at.config), till.client:
                await till.client.wait_connected()
                assert (await till.fact(till.sale(1)))["ok"]
                await until(lambda: statuses and statuses[-1].link == "online" and statuses[-1].safe_to_switch_off)

                await wan.cut()
                for sequence in range(2, 7):
                    assert (await till.fact(till.sale(sequence)))["ok"]
                await until(lambda: statuses[-1].link == "wan")
                await until(lambda: statuses[-1].backlog["transaction"].facts == 5)
                assert not statuses[-1].safe_to_switch_off

                store = at.config.store.id
                parts = price_list.chunks(price_list.read(prices))
                version = price_list.manifest(Recipient(store=store), "v1", "2000-01-01T00:00:00", "EUR", parts)
                makes = price_list.messages(version, parts, keys.load(tmp_path / "hq.key"))
                Downlog(hq_file).append(store_scope(store), "prices", makes)  # while the store cannot be reached

                await wan.restore()
                await until(lambda: statuses[-1].link == "online" and statuses[-1].backlog["transaction"].facts == 0)
                await until(lambda: notices and notices[-1].version == "v1")
                found = await till.request("price.lookup", "ask-1", code="2100010")
                assert found["ok"]
                assert found["result"]["price_minor"] == 199
                await until(lambda: statuses[-1].price_version == "v1" and statuses[-1].safe_to_switch_off)

    with hq_file.connect() as db:
        sales = db.execute(text("SELECT id FROM facts WHERE type = 'tillgate.sale.completed.v1' ORDER BY seq")).all()
        lanes = db.execute(text("SELECT DISTINCT lane FROM facts WHERE type LIKE '%sale%'")).scalars().all()
    assert len(sales) == len(set(sales)) == 6
    assert lanes == ["1"]
    assert scalars(hq_file, schema.facts.c.type, schema.facts.c.type == "tillgate.price.activated.v1")
    assert scalars(hq_file, schema.rejected.c.id) == []


async def test_a_version_signed_by_a_stranger_is_refused_and_does_not_block_the_stream(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, prices: Path
) -> None:
    public = keys.make(tmp_path / "hq.key")
    keys.make(tmp_path / "stranger.key")
    versions: list[str] = []

    def on_notice(message: Message) -> None:
        versions.append(PriceNotice.model_validate_json(message.payload).version)
        message.ack()

    cloud_toml = f'[cloud]\nhost = "127.0.0.1"\nport = {cloud.port}\nprofile = "mosquitto"\nprice_key = "{public}"\n'
    async with gateway(lanes_toml(1) + cloud_toml) as at:
        store = at.config.store.id
        parts = price_list.chunks(price_list.read(prices))
        for name, file in (("forged", "stranger.key"), ("true", "hq.key")):
            version = price_list.manifest(Recipient(store=store), name, "2000-01-01T00:00:00", "EUR", parts)
            makes = price_list.messages(version, parts, keys.load(tmp_path / file))
            Downlog(hq_file).append(store_scope(store), "prices", makes)
        watcher = Client(Address(socket=at.config.broker_socket), client_id="watcher")
        watcher.on_message(topics.STORE_ANY, on_notice)
        async with a_receiver(hq_file, cloud.port), watcher, a_bridge(at.config):
            await until(lambda: versions == ["true"])
            refused = schema.facts.c.type == "tillgate.price.refused.v1"
            await until(lambda: scalars(hq_file, schema.facts.c.id, refused))
    assert "forged" not in versions
