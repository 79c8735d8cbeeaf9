"""A short run of the fault suite with a fixed seed; and that the suite finds a promise that is broken on purpose."""

from __future__ import annotations

import ast
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import demo.sealed
from tests.faults import plan as plans
from tests.faults import sabotage, suite
from tests.faults.verdict import judge

SEED = 20260504
KILLS = 12
DURATION_S = 24.0
HERE = Path(__file__).parent

FOUND_BY = {
    "lose": {"nothing accepted is lost", "the whole journal is at HQ"},
    "double": {"nothing is twice at HQ"},
    "swap": {"what HQ has stands where it was accepted", "a lane's facts of one class keep their order"},
    "change": {"what HQ has is what the till made", "byte for byte", "HQ's hashes all follow, computed anew"},
    "invent": {"nothing accepted is lost"},
    "cut-out": {"`tillgate journal verify` agrees"},
    "lie": {"nothing counts as confirmed that HQ does not have"},
}
FIGURE = {"lose": "lost", "double": "twice", "swap": "out_of_order", "invent": "lost"}


@pytest.mark.timeout(600)
async def test_a_short_run_keeps_every_promise_and_what_is_broken_on_purpose_is_found(capsys: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tillgate-faults-"))  # short: it holds sockets
    folder.chmod(0o755)  # PostgreSQL runs as another user below it
    plan = plans.make(SEED, KILLS, DURATION_S)
    try:
        async with suite.lived(folder, plan, print) as life:
            verdict = life.judge()
            assert verdict.good, f"{verdict.table()}\n{life.facts}"
            assert sum(life.facts["kills"].values()) == KILLS
            assert all(verdict.classes[name].accepted > 50 for name in ("critical", "transaction"))
            assert set(FOUND_BY) == set(sabotage.KINDS)
            for kind, promises in FOUND_BY.items():
                with copied(life.evidence, kind) as evidence:
                    sabotage.KINDS[kind](evidence)
                    broken = judge(evidence)
                missed = promises - {check["promise"] for check in broken.checks if not check["kept"]}
                assert not missed, f"{kind}: {missed} counts as kept\n{broken.table()}"
                if figure := FIGURE.get(kind):
                    assert sum(getattr(figures, figure) for figures in broken.classes.values()) > 0, kind
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def copied(evidence: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """A copy of everything that is counted."""
    import psycopg

    database = f"broken_{name.replace('-', '_')}"
    admin = evidence["hq"].replace("dbname=hq", "dbname=postgres")
    with psycopg.connect(admin, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {database} TEMPLATE hq".encode())
    state = Path(evidence["state"])
    copy = state.with_name(f"{state.name}-{name}")
    copy.mkdir()
    for file in (*state.glob("*.db"), *state.glob("*.db-wal")):
        shutil.copy(file, copy)
    keys = {
        Path(file).with_name("seal.key") for file in (state / "store.db", *(till["file"] for till in evidence["tills"]))
    }
    (copy / "seal.key").write_text("".join(key.read_text() for key in sorted(keys) if key.exists()))
    tills = [{**till, "file": shutil.copy(till["file"], copy / f"till-{till['lane']}")} for till in evidence["tills"]]
    yield {
        **evidence,
        "state": str(copy),
        "tills": tills,
        "hq": evidence["hq"].replace("dbname=hq", f"dbname={database}"),
    }


def test_the_verdict_and_the_plain_till_know_nothing_of_the_product() -> None:
    opener = Path(demo.sealed.__file__)  # of what is sealed: it too is written from the description of the form
    names = ("verdict.py", "records.py", "plain_till.py", "ledger.py", "acks.py", "plan.py")
    for name in (opener, *(HERE / name for name in names)):
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(name.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        product = ("edge", "cloud_bridge", "drivers", "demo")
        assert not {one for one in imported - {"demo.sealed"} if one.split(".")[0] in product}, name


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_plan_again_and_another_seed_another() -> None:
    assert plans.make(7, 30, 150) == plans.make(7, 30, 150)
    assert plans.make(7, 30, 150) != plans.make(8, 30, 150)


@pytest.mark.parametrize(("kills", "duration_s"), [(12, 24.0), (30, 144.0), (200, 960.0)])
@pytest.mark.parametrize("seed", [1, 2, SEED])
def test_a_plan_holds_what_was_asked_for_and_each_kind_at_least_once(seed: int, kills: int, duration_s: float) -> None:
    plan = plans.make(seed, kills, duration_s)
    assert [action.at_ms for action in plan] == sorted(action.at_ms for action in plan)
    assert sum(action.domain == "kill" for action in plan) == kills
    targets = {action.target for action in plan if action.domain == "kill"}
    assert targets == {"edge", "bridge", "broker", "hq-1", "hq-2", "cloud", "postgres", "till"}
    kinds = {(action.domain, action.what) for action in plan}
    network = ("cut", "reset", "forget", "refuse", "thin", "far", "restore")
    assert {("network", what) for what in network} <= kinds
    assert {action.target for action in plan if action.what == "cut"} == {"both", "up", "down"}
    assert {("disk", "full"), ("disk", "io error"), ("disk", "well again")} <= kinds
    assert {("acks", what) for what in ("hold", "release", "drop", "repeat")} <= kinds
    assert {("clock", "jump"), ("clock", "unsynced"), ("clock", "well again"), ("kill", "starting")} <= kinds
    assert json.dumps([action.as_json() for action in plan])


def test_the_network_flaps_a_hundred_times_an_hour_of_compressed_time() -> None:
    duration_s = 960.0
    plan = plans.make(3, 200, duration_s)
    faults = sum(action.domain == "network" and action.what != "restore" for action in plan)
    hours = duration_s * plans.flapping(duration_s) / 3_600
    assert 0.6 * plans.CUTS_PER_HOUR <= faults / hours <= 1.4 * plans.CUTS_PER_HOUR
