"""Customers at HQ: keys kept with the facts, erased for good, the chains whole; old and new ends together."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select, text

from cloud_bridge.hq import commands, erasing, keys, subjects
from cloud_bridge.hq.record import Recorder
from cloud_bridge.hq.schema import facts, rejected
from cloud_bridge.hq.schema import subjects as table
from cloud_bridge.hq.unpack import unpack
from cloud_bridge.hq.verify import verify
from cloud_bridge.packer import Packer, single
from cloud_bridge.wire import MAX_BATCH_KEYS, Batch, Encoder
from edge.bus import envelope, frame
from edge.bus.messages.facts import FactClass
from edge.bus.messages.personal import Person
from edge.journal import chain, personal

EPOCH = "0197a3c4-0000-7000-8000-00000000000a"
ANNA, BERT = Person("member", "4711-0815"), Person("member", "4711-0816")
MEMBER, ERASED = "tillgate.member.identified.v1", "tillgate.subject.erased.v1"


class Journal:
    """A store's journal, written from docs/hq.md: bodies, chain, and its customers' keys."""

    def __init__(self, store: str = "s1") -> None:
        self.store = store
        self.keys: dict[str, bytes] = {}
        self._links: dict[FactClass, list[tuple[int, bytes, bytes]]] = {}
        self._sent: dict[FactClass, int] = {}

    def key_of(self, member: str) -> bytes:
        return self.keys.setdefault(member, personal.new_key())

    def pseudonym(self, member: str) -> str:
        return personal.pseudonym_of(self.key_of(member))

    def fact(self, fact_class: FactClass, type_: str, data: dict[str, Any], recorded: str | None = None) -> None:
        links = self._links.setdefault(fact_class, [])
        event = envelope.build(type_, envelope.lane_source(self.store, "1"), data)
        if type_ == MEMBER and isinstance(data.get("member"), str):
            data = personal.sealed_data(self.key_of(data["member"]), type_, event["id"], data, {"receipt_number"})
            event = {**event, "data": data}
        seq = len(links) + 1
        recorded = recorded or envelope.now_utc()
        body = envelope.canonical({**event, "tgclass": fact_class.value, "tgrecorded": recorded, "tgseq": seq})
        before = links[-1][2] if links else chain.genesis(EPOCH, fact_class.value)
        links.append((seq, body, chain.link(before, body)))

    def members(self, *names: str, **more: Any) -> None:
        for name in names:
            number = f"{len(self._links.get(FactClass.ENGAGEMENT, ())) + 1:06}"
            self.fact(FactClass.ENGAGEMENT, MEMBER, {"receipt_number": number, "member": name}, **more)

    def packed(self, fact_class: FactClass = FactClass.ENGAGEMENT, *, again: bool = False) -> list[tuple[str, bytes]]:
        """(topic, payload) of what was not packed before, by the bridge's own packer."""
        after = 0 if again else self._sent.get(fact_class, 0)
        there = {personal.pseudonym_of(key): key for key in self.keys.values()}
        out = []
        links = self._links.get(fact_class, [])[after:]
        while links:
            seq = links[0][0]
            prev = self._links[fact_class][seq - 2][2] if seq > 1 else chain.genesis(EPOCH, fact_class.value)
            packed = Packer(self.store).pack(
                fact_class, EPOCH, links, prev, aim_bytes=60_000, limit_bytes=60_000, thin=False, keys=there
            )
            out.append((f"tg/v1/{self.store}/up/{fact_class.value}", packed.payload))
            links = links[packed.last - seq + 1 :]
        self._sent[fact_class] = len(self._links.get(fact_class, []))
        return out


def in_files(engine: Engine, *needles: bytes) -> bool:
    """Whether HQ's database still has one of these anywhere: in SQLite's files, in PostgreSQL's tables as they lie."""
    if engine.dialect.name == "sqlite":
        file = Path(str(engine.url.database))
        content = b"".join(part.read_bytes() for part in file.parent.glob(file.name + "*"))
    else:
        with engine.connect() as db:
            paths = [db.execute(text(f"SELECT pg_relation_filepath('{name}')")).scalar() for name in
                     ("subjects", "rejected", "subjects_by_name", "subjects_pkey")]  # fmt: skip
            db.execute(text("CHECKPOINT"))
            content = b"".join(
                bytes(db.execute(text(f"SELECT pg_read_binary_file('{path}')")).scalar() or b"") for path in paths
            )
    return any(needle in content for needle in needles)


def whole(engine: Engine) -> bool:
    reports = list(verify(engine))
    return bool(reports) and all(report.whole for report in reports)


def members_at(engine: Engine, store: str = "s1") -> list[Any]:
    """What HQ reads of the member facts of a store."""
    with engine.connect() as db:
        rows = (
            db.execute(select(facts.c.body).where(facts.c.store == store, facts.c.type == MEMBER).order_by(facts.c.seq))
            .scalars()
            .all()
        )
        return [subjects.opened(db, store, body)["data"]["member"] for body in rows]


def test_a_batch_without_customers_is_what_it_was() -> None:
    """Not a byte more: no attribute, and no key that nobody speaks of."""
    journal = Journal()
    journal.fact(FactClass.ENGAGEMENT, MEMBER, {"receipt_number": "1"})
    journal.key_of("somebody else")
    ((_, payload),) = journal.packed()
    header, _ = frame.unpack(payload)
    assert set(header) == {"store", "class", "epoch", "first", "last", "prev", "head", "encoding"}


def test_a_batch_of_many_customers_keeps_its_header_small() -> None:
    """Receivers of before read at most 4096 bytes of header."""
    journal = Journal("s" * 64)
    journal.members(*(f"m{number}" for number in range(300)))
    payloads = journal.packed()
    assert len(payloads) == -(-300 // MAX_BATCH_KEYS)
    seen = 0
    for _, payload in payloads:
        assert payload.find(b"\n") < frame.MAX_HEADER_BYTES
        received = unpack(payload)
        assert received.sound
        assert len(received.keys) == len(received.batch.bodies)
        seen += len(received.keys)
    assert seen == 300


def test_hq_reads_members_and_keeps_each_key_once(hq: Engine) -> None:
    journal = Journal()
    journal.members(ANNA.name, BERT.name, ANNA.name)
    recorder = Recorder(hq)
    first = journal.packed()
    recorder.record(first)
    recorder.record(first)
    journal.members(BERT.name, "4713")
    recorder.record(journal.packed())
    assert members_at(hq) == [ANNA.name, BERT.name, ANNA.name, BERT.name, "4713"]
    with hq.connect() as db:
        assert sorted(row["name"] for row in subjects.everybody(db)) == [ANNA.name, BERT.name, "4713"]
    assert whole(hq)


def test_attack_keys_forged_in_the_header(hq: Engine) -> None:
    """A broker in the middle writes what it likes into the header: no key is taken that the chain does not name."""
    journal = Journal()
    journal.members(ANNA.name)
    ((topic, payload),) = journal.packed()
    header, body = frame.unpack(payload)
    foreign = personal.key_as_text(personal.new_key())
    for number, claimed in enumerate(([foreign, "short", 7, None, ["x"]], "text", 12, {"a": 1}, [foreign] * 60)):
        recorder = Recorder(hq)
        outcome = recorder.record([(topic, frame.pack({**header, "keys": claimed}, body))])
        assert outcome["s1", EPOCH].confirmed[FactClass.ENGAGEMENT] == 1, number
    with hq.connect() as db:
        assert db.execute(select(table)).all() == []
        assert db.execute(select(rejected)).all() == []


def test_a_receiver_of_before_records_the_same_facts() -> None:
    """What it reads of the header it finds; it does not know `keys` and leaves them."""
    from pydantic import BaseModel, ConfigDict

    class HeaderOfBefore(BaseModel):
        model_config = ConfigDict(extra="ignore")
        store: str
        epoch: str
        first: int
        last: int
        prev: str | None
        head: str
        encoding: str

    journal = Journal()
    journal.members(ANNA.name)
    ((_, payload),) = journal.packed()
    assert b'"keys"' in payload
    header = HeaderOfBefore.model_validate(frame.unpack(payload)[0])
    assert (header.first, header.last) == (1, 1)


def test_a_store_of_before_sends_members_in_plain_and_hq_reads_them(hq: Engine) -> None:
    event = envelope.build(MEMBER, envelope.lane_source("s1", "1"), {"receipt_number": "1", "member": "4711"})
    body = envelope.canonical({**event, "tgclass": "engagement", "tgrecorded": envelope.now_utc(), "tgseq": 1})
    prev = chain.genesis(EPOCH, "engagement")
    batch = Batch("s1", FactClass.ENGAGEMENT, EPOCH, 1, prev, chain.link(prev, body), (body,))
    Recorder(hq).record([("tg/v1/s1/up/engagement", Encoder().encode(batch))])
    assert members_at(hq) == ["4711"]
    assert whole(hq)


def test_a_single_message_brings_the_key_as_an_attribute() -> None:
    """``wire = "single"``: an HQ that has only a broker opens the part with any AES-SIV."""
    journal = Journal()
    key = journal.key_of(ANNA.name)
    data = personal.sealed_data(key, MEMBER, "a", {"receipt_number": "1", "member": ANNA.name}, {"receipt_number"})
    body = orjson.dumps({"data": data, "id": "a", "type": MEMBER}, option=orjson.OPT_SORT_KEYS)
    event = json.loads(single(body, {personal.pseudonym_of(key): key}))
    assert event.pop("tgkeys") == personal.key_as_text(key)
    assert orjson.dumps(event, option=orjson.OPT_SORT_KEYS) == body
    assert single(body, {}) == body
    assert single(b'{"id":"a"}', {personal.pseudonym_of(key): key}) == b'{"id":"a"}'


# -- erasing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(hq: Engine) -> tuple[Journal, Journal]:
    """Two stores know Anna, one knows Bert; one batch with Anna's key was refused and lies in quarantine."""
    first, second = Journal("s1"), Journal("s2")
    first.members(ANNA.name, BERT.name, ANNA.name)
    second.members(ANNA.name)
    first.fact(FactClass.TRANSACTION, "tillgate.sale.completed.v1", {"receipt_number": "000001", "total_minor": 199})
    first.fact(FactClass.TRANSACTION, "tillgate.sale.completed.v1", {"receipt_number": "000002", "total_minor": 299})
    recorder = Recorder(hq)
    recorder.record([*first.packed(), *second.packed(), *first.packed(FactClass.TRANSACTION)])
    topic, payload = first.packed(again=True)[0]
    recorder.record([(topic, payload[:-3])])
    return first, second


def test_an_erased_customer_is_gone_from_hq_and_the_chains_hold(hq: Engine, recorded: tuple[Journal, Journal]) -> None:
    first, second = recorded
    needles = [first.keys[ANNA.name], second.keys[ANNA.name], personal.key_as_text(first.keys[ANNA.name]).encode(),
               ANNA.name.encode()]  # fmt: skip
    assert in_files(hq, *needles)

    erasure = erasing.destroy(hq, ANNA, "me")

    assert erasure.swept
    assert [(one.store, one.state) for one in erasure.stores] == [("s1", "to be told"), ("s2", "to be told")]
    for needle in needles:
        assert not in_files(hq, needle)
    assert in_files(hq, first.keys[BERT.name])
    sealed = {"tgsealed": first.pseudonym(ANNA.name)}
    seen = members_at(hq)
    assert seen[1] == BERT.name
    assert seen[0]["tgsealed"] == seen[2]["tgsealed"] == sealed["tgsealed"]
    assert whole(hq)
    assert erasing.export(hq, ANNA)["stores"] == []
    assert len(erasing.export(hq, BERT)["stores"]) == 1


def test_what_comes_later_brings_nobody_back(hq: Engine, recorded: tuple[Journal, Journal]) -> None:
    """Batches under way, the same key again, a store that HQ did not know to know her."""
    first, _ = recorded
    erasing.destroy(hq, ANNA, "me")
    recorder = Recorder(hq)
    recorder.record(first.packed(again=True))
    first.members(ANNA.name)
    recorder.record(first.packed())
    third = Journal("s3")
    third.members(ANNA.name, BERT.name)
    recorder.record(third.packed())
    assert not in_files(hq, first.keys[ANNA.name], third.keys[ANNA.name])
    assert members_at(hq, "s3")[1] == BERT.name
    (erasure,) = erasing.look(hq)
    assert [(one.store, one.state) for one in erasure.stores] == [
        ("s1", "to be told"), ("s2", "to be told"), ("s3", "to be told"),
    ]  # fmt: skip
    assert whole(hq)


def test_keys_that_arrive_while_somebody_is_erased_are_not_kept(hq: Engine) -> None:
    """Receivers take keys side by side, and the one who erases passes none of them."""
    journals = [Journal(f"s{number}") for number in range(40)]
    for journal in journals:
        journal.members(ANNA.name, BERT.name)
    batches = [journal.packed() for journal in journals]
    recorders = [Recorder(hq) for _ in range(4)]

    def receive(number: int) -> None:
        for batch in batches[number::4]:
            recorders[number].record(batch)

    with ThreadPoolExecutor(5) as threads:
        receiving = [threads.submit(receive, number) for number in range(4)]
        erasing_ = threads.submit(lambda: [erasing.destroy(hq, ANNA, "me") for _ in range(5)])
        for one in (*receiving, erasing_):
            one.result()
    there = {personal.pseudonym_of(journal.keys[ANNA.name]) for journal in journals}
    with hq.connect() as db:
        kept = {row.pseudonym for row in db.execute(select(table).where(table.c.key.is_not(None)))}
        assert kept.isdisjoint(there)
        assert len(kept) == len(journals)
    assert len(erasing.look(hq)[0].stores) == len(journals)
    assert whole(hq)


def test_a_store_that_erases_somebody_itself_is_heard(hq: Engine, recorded: tuple[Journal, Journal]) -> None:
    """Its fact may overtake the batch that brings the key: that one is not taken then."""
    first, _ = recorded
    first.members("4714")
    late = first.packed()
    for member in (ANNA.name, "4714"):
        first.fact(FactClass.OPERATION, ERASED, {"subject": first.pseudonym(member)})
    recorder = Recorder(hq)
    recorder.record(first.packed(FactClass.OPERATION))
    recorder.record(late)
    seen = members_at(hq)
    assert [type(one) for one in seen] == [dict, str, dict, dict]
    assert members_at(hq, "s2") == [ANNA.name], "each store's facts have keys of their own"
    assert erasing.look(hq) == []
    assert whole(hq)


def test_stores_are_told_once_and_shown_until_all_have_done_it(
    hq: Engine, recorded: tuple[Journal, Journal], tmp_path: Path
) -> None:
    first, second = recorded
    keys.make(tmp_path / "hq.key")
    key = keys.load(tmp_path / "hq.key")
    out = erasing.tell(hq, key, erasing.destroy(hq, ANNA, "me"), "me")
    assert [topic for topic, _ in out] == ["tg/v1/s1/down/commands", "tg/v1/s2/down/commands"]
    assert erasing.tell(hq, key, erasing.destroy(hq, ANNA, "me"), "me") == [], "not twice"
    for _, payload in out:
        assert ANNA.name.encode() not in payload
    with hq.connect() as db:
        told = [row for row in commands.look(hq) if row.operation == "privacy.erase"]
        assert {orjson.dumps(one.parameters) for one in told} == {
            orjson.dumps({"subject": journal.pseudonym(ANNA.name)}) for journal in recorded
        }
        assert not [1 for (body,) in db.execute(text("SELECT parameters FROM commands_sent")) if ANNA.name in body]
    (erasure,) = erasing.look(hq)
    assert [one.state for one in erasure.stores] == ["told", "told"]
    assert not erasure.done

    first.fact(FactClass.OPERATION, ERASED, {"subject": first.pseudonym(ANNA.name)})
    recorder = Recorder(hq)
    recorder.record(first.packed(FactClass.OPERATION))
    ids = {one.store: one.command for one in erasure.stores}
    said = {"command": ids["s2"], "operation": "privacy.erase", "ok": False,
            "problem": {"code": "storage_full", "detail": "no room"}}  # fmt: skip
    second.fact(FactClass.OPERATION, "tillgate.command.finished.v1", said)
    recorder.record(second.packed(FactClass.OPERATION))
    (erasure,) = erasing.look(hq)
    assert [one.state for one in erasure.stores] == ["done", "failed"]
    assert erasure.stores[1].problem == "storage_full: no room"

    again = erasing.tell(hq, key, erasing.destroy(hq, ANNA, "me"), "me")
    assert [topic for topic, _ in again] == ["tg/v1/s2/down/commands"]
    second.fact(FactClass.OPERATION, ERASED, {"subject": second.pseudonym(ANNA.name)})
    recorder.record(second.packed(FactClass.OPERATION))
    assert erasing.look(hq)[0].done


def test_a_store_put_back_to_an_older_day_is_told_again(hq: Engine, recorded: tuple[Journal, Journal]) -> None:
    """It records new facts with a key that it had destroyed; a repeat of older ones means nothing."""
    first, _ = recorded
    erasing.destroy(hq, ANNA, "me")
    first.fact(FactClass.OPERATION, ERASED, {"subject": first.pseudonym(ANNA.name)})
    recorder = Recorder(hq)
    recorder.record(first.packed(FactClass.OPERATION))
    recorder.record(first.packed(again=True))
    assert {one.store: one.state for one in erasing.look(hq)[0].stores}["s1"] == "done"
    first.members(ANNA.name, recorded=datetime.now(UTC).replace(year=2099).isoformat().replace("+00:00", "Z"))
    recorder.record(first.packed())
    assert {one.store: one.state for one in erasing.look(hq)[0].stores}["s1"] == "to be told"
    assert not in_files(hq, first.keys[ANNA.name])


def test_an_export_is_everything_about_one_and_nothing_of_another(
    hq: Engine, recorded: tuple[Journal, Journal]
) -> None:
    document = erasing.export(hq, ANNA)
    assert (document["kind"], document["name"]) == ("member", ANNA.name)
    by_store = {one["store"]: one for one in document["stores"]}
    assert [fact["data"] for fact in by_store["s1"]["facts"]] == [
        {"receipt_number": "000001", "member": ANNA.name}, {"receipt_number": "000003", "member": ANNA.name},
    ]  # fmt: skip
    assert [fact["data"]["total_minor"] for fact in by_store["s1"]["receipts"]] == [199]
    assert len(by_store["s2"]["facts"]) == 1
    assert BERT.name not in json.dumps(document)


def test_a_part_that_was_changed_stands_in_the_export_as_it_is(hq: Engine) -> None:
    """A store may send anything; what cannot be opened keeps nobody from the rest."""
    journal = Journal()
    journal.members(ANNA.name)
    key = journal.key_of(ANNA.name)
    forged = personal.sealed_data(key, MEMBER, "another fact", {"member": ANNA.name}, ())
    journal.fact(FactClass.ENGAGEMENT, MEMBER, {"receipt_number": "7", **forged})
    Recorder(hq).record(journal.packed())
    found = erasing.export(hq, ANNA)["stores"][0]["facts"]
    assert found[0]["data"]["member"] == ANNA.name
    assert found[1]["data"]["member"] == forged["member"]
    assert "cannot be opened" in found[1]["unopened"]


# -- the command line --------------------------------------------------------------------------------------------------


def hq_says(capsys: pytest.CaptureFixture[str], *words: str, expect: int = 0) -> str:
    from edge.cli import main

    assert main(["hq", "privacy", *words]) == expect
    return capsys.readouterr().out


def test_the_command_line(
    hq_file: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    url = ["--url", str(hq_file.url)]
    journal = Journal()
    journal.members(ANNA.name, BERT.name)
    Recorder(hq_file).record(journal.packed())
    keys.make(tmp_path / "hq.key")
    assert ANNA.name in hq_says(capsys, "members", *url)
    out = tmp_path / "anna.json"
    hq_says(capsys, "export", ANNA.name, "--out", str(out), *url)
    assert out.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(out.read_text())["stores"][0]["facts"]) == 1
    hq_says(capsys, "export", "nobody", *url, expect=1)

    way = ["--key", str(tmp_path / "hq.key"), "--broker", f"127.0.0.1:{closed}", *url]
    monkeypatch.setattr("cloud_bridge.commands.at_hq.CONNECT_WITHIN_S", 0.2)
    hq_says(capsys, "erase", ANNA.name, *way, expect=2)  # nobody is there to be asked
    monkeypatch.setattr(sys, "stdin", _Terminal("4711-0816\n"))
    hq_says(capsys, "erase", ANNA.name, *way, expect=2)
    assert members_at(hq_file) == [ANNA.name, BERT.name]
    monkeypatch.setattr(sys, "stdin", _Terminal(f"{ANNA.name}\n"))
    said = hq_says(capsys, "erase", ANNA.name, "--json", *way, expect=3)
    erasure = json.loads(said)
    assert erasure["swept"] is True
    assert [one["state"] for one in erasure["stores"]] == ["told"]
    assert "told" in hq_says(capsys, "list", *url)
    shown = hq_says(capsys, "members", *url)
    assert "(erased)" in shown
    assert ANNA.name not in shown


class _Terminal:
    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


@pytest.fixture
def closed() -> int:
    """A port where nobody listens."""
    from tests.cloud_bridge.rig import a_port

    return a_port()
