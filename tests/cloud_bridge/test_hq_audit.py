"""`tillgate hq audit`: who did what, from HQ's own copy, and the heads that a store's copy is compared with."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine

from cloud_bridge.hq.record import Recorder
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.rig import STORE, bodies
from tests.cloud_bridge.test_hq_commands import run
from tests.cloud_bridge.test_record import Journal


def audit_body(seq: int, **data: object) -> bytes:
    """An audit entry as a store's journal writes it."""
    event = envelope.build("tillgate.audit.recorded.v1", envelope.gateway_source(STORE), {"outcome": "done", **data})
    own = {"tgclass": "operation", "tgclock": "synced", "tgrecorded": f"2026-05-04T09:30:{seq:02d}.000Z", "tgseq": seq}
    return envelope.canonical({**event, **own})


@pytest.fixture
def journal(hq: Engine) -> Journal:
    """An operation chain with three entries among other facts."""
    items = bodies(1, 5, FactClass.OPERATION)
    items[1] = audit_body(2, action="person.logged_in", person="anna", lane="3")
    items[2] = audit_body(3, action="drawer.without_sale", person="anna", second_person="sven", lane="3")
    items[4] = audit_body(5, action="key.rotated", person="olga")
    journal = Journal(items, FactClass.OPERATION)
    Recorder(hq).record([journal.cut(1, 5)])
    return journal


def test_entries_are_listed_and_filtered(hq_url: str, journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hq", "audit", "--url", hq_url, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["store"], one["action"]) for one in found] == [
        (STORE, "person.logged_in"), (STORE, "drawer.without_sale"), (STORE, "key.rotated"),
    ]  # fmt: skip
    assert run("hq", "audit", "--url", hq_url, "--store", STORE, "--person", "sven") == 0
    assert f"{STORE} drawer.without_sale anna, approved by sven at lane 3" in capsys.readouterr().out
    assert run("hq", "audit", "--url", hq_url, "--last", "1", "--csv") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{STORE},2026-05-04T09:30:05.000Z,synced,key.rotated")
    assert run("hq", "audit", "--url", hq_url, "--action", "no.such") == 2


def test_heads_are_what_the_store_compares_with(
    hq_url: str, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hq", "audit", "--url", hq_url, "--heads") == 2
    assert run("hq", "audit", "--url", hq_url, "--store", "nobody", "--heads") == 2
    capsys.readouterr()
    assert run("hq", "audit", "--url", hq_url, "--store", STORE, "--heads") == 0
    assert capsys.readouterr().out == f"--head operation:5:{journal.hashes[5].hex()[:32]}\n"
