"""A customer the whole way: till, store, HQ; given out, erased by a technician, erased by HQ, also in a store away."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from bench.gateway import Gateway
from cloud_bridge.hq import erasing, subjects
from cloud_bridge.hq.verify import verify as verify_hq
from edge.bus import envelope
from edge.journal.audit import verify
from edge.journal.subjects import Keys
from tests.cloud_bridge.rig import Mosquitto, a_bridge, a_receiver, until
from tests.cloud_bridge.test_commands_whole_way import HQ, store_of
from tests.cloud_bridge.test_hq_privacy import members_at
from tests.flows.plain_till import PlainTill

ANNA, BERT = "4711-0815", "4711-0816"


async def member(till: PlainTill, sequence: int, number: str, **more: Any) -> Any:
    data = {"receipt_number": f"1-{sequence + 1}", "member": number, **more}
    event = envelope.build("tillgate.member.identified.v1", envelope.lane_source("BENCH", till.lane), data)
    return await till.fact({**event, "sequence": f"{sequence:010}"})


async def tillgate(at: Gateway, *words: str, said: str = "") -> tuple[int, str, str]:
    """What a technician types: `tillgate privacy WORDS`; exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", "privacy", *words, "--config", str(at.config.file),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(said.encode()), 60)
    return process.returncode or 0, out.decode(), err.decode()


def plain_in(folder: Path, number: str) -> list[str]:
    """Files of the store's state that name the customer."""
    return [file.name for file in folder.rglob("*") if file.is_file() and number.encode() in file.read_bytes()]


async def test_a_technician_gives_out_and_erases(hq_file: Engine, cloud: Mosquitto, tmp_path: Path) -> None:
    hq = HQ(tmp_path, cloud.port)
    async with store_of(hq, cloud.port) as at, a_receiver(hq_file, cloud.port), a_bridge(at.config):
        till = PlainTill(at.address, "1")
        async with till.client:
            await till.client.wait_connected()
            assert (await member(till, 1, ANNA, points=7))["ok"]
            assert (await till.fact(till.sale(2)))["ok"]
            assert (await member(till, 3, BERT))["ok"]
            assert (await till.fact(till.sale(4)))["ok"]
            bad = await till.fact({**till.sale(5), "data": {"member": ANNA}, "id": "bad"})
            assert bad["problem"]["code"] == "bad_message"
            await until(lambda: members_at(hq_file, "BENCH") == [ANNA, BERT])

            status, out, err = await tillgate(at, "export", "-", said=f"{ANNA}\n")
            assert status == 0, err
            document = json.loads(out)
            assert [fact["data"] for fact in document["facts"]] == [
                {"receipt_number": "1-2", "member": ANNA, "points": 7}
            ]
            assert [fact["data"]["receipt_number"] for fact in document["receipts"]] == ["1-2"]
            assert [one["origin"] for one in document["quarantined"]] == ["tg/v1/lanes/1/facts"]
            assert BERT not in out

            status, out, err = await tillgate(at, "erase", ANNA)
            assert (status, out) == (2, "")
            assert "--yes" in err
            status, out, err = await tillgate(at, "erase", ANNA, "--yes", "--json")
            assert status == 0, err
            erasure = json.loads(out)
            assert erasure["pseudonyms"] == document["pseudonyms"]
            assert (erasure["quarantined"], erasure["whole"]) == (1, True)

            assert plain_in(at.config.state_dir, ANNA) == []
            status, out, _ = await tillgate(at, "export", ANNA)
            assert status == 0
            assert json.loads(out)["facts"] == []
            assert (await member(till, 5, ANNA))["ok"], "the till hears nothing of it"
            await until(lambda: [type(one) for one in members_at(hq_file, "BENCH")] == [dict, str, dict])
            assert members_at(hq_file, "BENCH")[2] == {"tgsealed": None}
            with hq_file.connect() as db:
                rows = subjects.everybody(db)
            assert sorted(str(row["name"]) for row in rows) == [BERT, "None"]

            status, out, _ = await tillgate(at, "readmit", ANNA)
            assert status == 0
            assert (await tillgate(at, "readmit", ANNA))[0] == 1
            assert (await member(till, 6, ANNA))["ok"]
            await until(lambda: members_at(hq_file, "BENCH")[3:] == [ANNA])
        log = at.log.read_text()
        assert ANNA not in log
        assert verify(at.config.store_db).ok
        actions = await audited(at)
    assert actions == ["subject.exported", "subject.erased", "subject.exported", "subject.readmitted"]
    assert all(report.whole for report in verify_hq(hq_file))


async def audited(at: Gateway) -> list[str]:
    """The audit's actions about customers, in order; none of them says who it was."""
    from edge.bus.messages.facts import FactClass
    from edge.journal.reader import Reader

    reader = await Reader.open(at.config.store_db)
    try:
        rows = await reader.tail(FactClass.OPERATION, 0)
    finally:
        await reader.close()
    assert not [row for row in rows if ANNA.encode() in row.body]
    said = [json.loads(row.body)["data"] for row in rows if row.type == "tillgate.audit.recorded.v1"]
    return [one["action"] for one in said if one["action"].startswith("subject.")]


async def test_hq_erases_in_a_store_that_is_away(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hq = HQ(tmp_path, cloud.port)
    async with store_of(hq, cloud.port) as at:
        till = PlainTill(at.address, "1")
        async with till.client, a_receiver(hq_file, cloud.port):
            await till.client.wait_connected()
            async with a_bridge(at.config):
                await member(till, 1, ANNA)
                await member(till, 2, BERT)
                await until(lambda: members_at(hq_file, "BENCH") == [ANNA, BERT])
            await member(till, 3, ANNA)  # not at HQ, which erases her while the store is away
            await hq.run("privacy", "erase", ANNA, "--yes", *hq.way)
            assert [one.state for one in erasing.look(hq_file)[0].stores] == ["told"]
            key_here = key_of(at, members_at(hq_file, "BENCH")[0]["tgsealed"])
            assert key_here is not None
            async with a_bridge(at.config):
                await until(lambda: erasing.look(hq_file)[0].done)
                await until(lambda: len(members_at(hq_file, "BENCH")) == 3)
            seen = members_at(hq_file, "BENCH")
            assert [type(one) for one in seen] == [dict, str, dict]
            assert key_of(at, seen[0]["tgsealed"]) is None
            for folder in (at.config.state_dir, tmp_path):
                for file in folder.rglob("*"):
                    assert not file.is_file() or key_here not in file.read_bytes(), file
            assert plain_in(at.config.state_dir, ANNA) == []
        assert verify(at.config.store_db).ok
        assert await audited(at) == ["subject.erased"]
    assert all(report.whole for report in verify_hq(hq_file))


def key_of(at: Gateway, pseudonym: str) -> bytes | None:
    from edge.journal.reader import connect

    db = connect(at.config.store_db)
    try:
        return Keys(at.config.state_dir).of(db, [pseudonym]).get(pseudonym)
    finally:
        db.close()
