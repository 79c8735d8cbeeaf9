"""Facts that HQ never gets: through a cloud, in both wires, and what `tillgate parked` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from edge.bus.messages.facts import FactClass
from edge.cli import main
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, a_bridge, a_receiver, at_hq, until
from tests.cloud_bridge.stand_in import StandIn
from tests.cloud_bridge.stand_in_limits import AWS_IOT_CORE
from tests.cloud_bridge.stand_in_manners import facts

TAMPER = (
    "UPDATE facts SET body = CAST(replace(CAST(plain(class, seq, body) AS TEXT), '1.1', '9.9') AS BLOB) WHERE seq = 7"
)


async def test_what_hq_refuses_and_what_no_packet_holds_is_listed_with_its_reason(
    hq_file: Engine, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    async with StandIn(AWS_IOT_CORE).running() as broker:
        config = configure(broker.port, 'profile = "aws-iot-core"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port):
            await edge.journal(FactClass.TRANSACTION, 20)
            await edge.journal(FactClass.OPERATION, 1, noise_bytes=200_000)
            await edge.journal(FactClass.OPERATION, 5)
            await edge.store.write([(TAMPER + " AND class = 'transaction'", ())])
            async with a_bridge(config):
                await until(lambda: edge.confirmed() == 20 and edge.confirmed(FactClass.OPERATION) == 6)
                await until(lambda: edge.status and edge.status.parked == 2)
                epoch = edge.store.epoch
    assert broker.broken == []
    assert len(at_hq(hq_file)) == 19 + 5
    assert main(["parked", "--config", str(config.file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["parked"]
    assert [(row["epoch"], row["class"], row["seq"], row["reason"]) for row in shown] == [
        (epoch, "operation", 1, "too large for the cloud broker"),
        (epoch, "transaction", 7, "rejected by HQ"),
    ]
    assert main(["parked", "--config", str(config.file)]) == 0
    assert "rejected by HQ" in capsys.readouterr().out


async def test_single_events_too_large_are_parked_and_the_rest_flows(configure: Configure) -> None:
    async with StandIn(AWS_IOT_CORE).running() as broker:
        config = configure(broker.port, 'profile = "aws-iot-core"\nwire = "single"\nconfirm = "broker"\n')
        async with Edge(config).running() as edge:
            await edge.journal(FactClass.TRANSACTION, 1, noise_bytes=200_000)
            await edge.journal(FactClass.TRANSACTION, 5)
            async with a_bridge(config):
                await until(lambda: edge.confirmed() == 6)
                await until(lambda: edge.status and edge.status.parked == 1)
                assert edge.status is not None
                assert edge.status.confirm == "broker"
        assert len([message for _, message in broker.received if facts(message)]) == 5
        assert broker.broken == []


def test_a_store_that_never_had_a_bridge_has_nothing_parked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "store.toml"
    file.write_text('state_dir = "state"\n[store]\nid = "s1"\n[[lanes]]\nid = "1"\n')
    assert main(["parked", "--config", str(file)]) == 0
    assert "no fact is parked" in capsys.readouterr().out
    assert main(["parked", "--config", str(tmp_path / "none.toml")]) == 2
