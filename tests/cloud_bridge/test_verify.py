"""`tillgate hq verify`: what was changed behind HQ's back is found, whatever it was; what is whole is called so."""

from __future__ import annotations

import hashlib
import json

import pytest
from sqlalchemy import Engine, text

from cloud_bridge.hq import verify as verify_module
from cloud_bridge.hq.record import Recorder
from cloud_bridge.hq.verify import ChainReport, count, verify
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.rig import bodies
from tests.cloud_bridge.test_hq_commands import run
from tests.cloud_bridge.test_record import EPOCH, Journal

FACTS = 5_000
"""More than two pages."""


@pytest.fixture(params=[verify_module.PAGE, 7])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, hq: Engine) -> Journal:
    """A chain at HQ, in order; walked in large pages and in tiny ones."""
    monkeypatch.setattr(verify_module, "PAGE", request.param)
    journal = Journal(bodies(1, FACTS if request.param > 100 else 60))
    Recorder(hq).record([journal.cut(1, len(journal.items))])
    return journal


def change(hq: Engine, statement: str) -> None:
    with hq.begin() as db:
        assert db.exec_driver_sql(statement).rowcount == 1


def walked(hq: Engine) -> ChainReport:
    (report,) = verify(hq)
    return report


def test_an_untouched_chain_is_whole_and_ends_in_the_hash_anybody_can_compute(hq: Engine, journal: Journal) -> None:
    seen: list[int] = []
    (report,) = verify(hq, None, seen.append)
    expected = hashlib.sha256(f"tillgate.journal.v1\0{EPOCH}\0transaction".encode()).digest()
    for body in journal.items:
        expected = hashlib.sha256(expected + body).digest()
    assert report.whole
    assert (report.facts, report.last, report.hash) == (len(journal.items), len(journal.items), expected)
    assert sum(seen) == count(hq) == len(journal.items)
    assert max(seen) <= verify_module.PAGE


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE facts SET body = replace(body, 'K\u00e4se', 'Kase') WHERE seq = 20", "its hash"),
        ("UPDATE facts SET body = replace(body, '\"tgseq\":20', '\"tgseq\":21') WHERE seq = 20", "its body says"),
        ("UPDATE facts SET body = '[]' WHERE seq = 20", "its body says"),
        ("UPDATE facts SET body = 'no JSON' WHERE seq = 20", "not JSON"),
        ("UPDATE facts SET type = 'tillgate.cash.moved.v1' WHERE seq = 20", "its type"),
        ("UPDATE facts SET id = 'another' WHERE seq = 20", "its id"),
    ],
)
def test_one_changed_row_is_named_and_only_it(hq: Engine, journal: Journal, statement: str, what: str) -> None:
    change(hq, statement)
    report = walked(hq)
    assert (report.changed_facts, [seq for seq, _ in report.changed]) == (1, [20])
    assert what in report.changed[0][1]
    assert (report.missing_facts, report.problems, report.whole) == (0, [], False)


def test_a_changed_hash_shows_at_its_row_and_the_next(hq: Engine, journal: Journal) -> None:
    change(hq, "UPDATE facts SET hash = (SELECT hash FROM facts WHERE seq = 21) WHERE seq = 20")
    assert [seq for seq, _ in walked(hq).changed] == [20, 21]


def test_rows_that_were_removed_are_missing(hq: Engine, journal: Journal) -> None:
    for seq in (20, 21, 40, len(journal.items)):
        change(hq, f"DELETE FROM facts WHERE seq = {seq}")
    report = walked(hq)
    assert report.missing == [(20, 21), (40, 40), (len(journal.items), len(journal.items))]
    assert (report.missing_facts, report.changed_facts, report.unproven) == (4, 0, 2)
    assert report.problems == [f"{len(journal.items)} facts were recorded, {len(journal.items) - 4} are here"]


def test_what_is_gone_on_record_is_not_missing(hq: Engine) -> None:
    journal = Journal(bodies(1, 60))
    recorder = Recorder(hq)
    for first, last, reason in ((1, 5, "evicted"), (31, 40, "expired")):
        data = {"of_class": "transaction", "first": first, "last": last, "reason": reason}
        event = envelope.build("tillgate.journal.tombstone.v1", "/stores/s1/gateway", data)
        stone = envelope.canonical({**event, "tgclass": "operation", "tgseq": 1})
        recorder.record([Journal([stone], FactClass.OPERATION, envelope.new_id()).cut(1, 1)])
        with hq.begin() as db:  # tombstones speak of their own epoch
            db.execute(text(f"UPDATE gone SET epoch = '{EPOCH}'"))
    recorder.record([journal.cut(6, 30), journal.cut(39, 50), journal.cut(55, 60)])
    report = next(one for one in verify(hq) if one.fact_class == "transaction" and one.epoch == EPOCH)
    assert (report.missing, report.gone_facts) == ([(51, 54)], 13), "39 and 40 came all the same"
    assert report.changed_facts == 0
    recorder.record([journal.cut(51, 54)])
    report = next(one for one in verify(hq) if one.fact_class == "transaction" and one.epoch == EPOCH)
    assert report.whole


def test_a_head_that_says_another_hash_is_a_problem(hq: Engine, journal: Journal) -> None:
    change(hq, "UPDATE heads SET hash = (SELECT hash FROM facts WHERE seq = 3)")
    assert "not the one that was confirmed" in walked(hq).problems[0]


def test_the_command_says_it_in_words_in_json_and_by_its_status(
    hq: Engine, hq_url: str, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hq", "verify", "--url", hq_url) == 0
    out = capsys.readouterr().out
    assert out == f"{len(journal.items)} facts in 1 chains: everything is here and unchanged\n"
    change(hq, "DELETE FROM facts WHERE seq = 20")
    assert run("hq", "verify", "--url", hq_url, "--store", "s1") == 1
    assert "! missing 20-20" in capsys.readouterr().out
    assert run("hq", "verify", "--url", hq_url, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["whole"], found["chains"][0]["missing"]) == (False, [[20, 20]])
    assert run("hq", "verify", "--url", hq_url, "--store", "nobody") == 2
    assert "'nobody' there is nothing here" in capsys.readouterr().err
