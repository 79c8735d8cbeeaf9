"""A card number at every door of the store: refused, told so, kept masked, and nowhere on the disk or in the log."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.gateway import Gateway, gateway, lanes_toml
from drivers.events import Scan
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import PtyWire
from edge.access.audit import Audit
from edge.bus import frame, topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.facts import AuditAction, CardPayment, TenderTaken
from edge.card_guard import LogFilter, guarded
from edge.card_numbers import CardNumberRefused
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.store import Store
from edge.services.quarantine import Quarantine
from edge.till import Till
from tests.edge.devices_rig import Counter, until
from tests.edge.hq_rig import Pen
from tests.flows.plain_till import PlainTill

PAN = "4111111111111111"
OTHER = "5555555555554444"
SPACED = "4111 1111 1111 1111"
ESCAPED = "\\u0034111111111111111 "
NEEDLES = (PAN, SPACED, ESCAPED.strip(), OTHER)
TENDER = "tillgate.tender.taken.v1"
WITHIN_S = 20
TRACK = f";{PAN}=27121010000000000000?"


def files_that_hold(folder: Path, *needles: str) -> list[str]:
    """Files below `folder` in which one of `needles` stands in plain, as text or in UTF-16."""
    wanted = [needle.encode(coding) for needle in needles for coding in ("utf-8", "utf-16-le")]
    found = []
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            found += [f"{file.name}: {needle!r}" for needle in wanted if needle in data]
    return found


def scanner_toml(folder: Path) -> str:
    return f"""
[[devices]]
id = "scanner-1"
protocol = "serial-scanner"
lanes = ["1"]
transport = {{ kind = "serial", path = "{folder}/ttyscanner" }}
"""


async def refused(till: PlainTill, event: Any) -> dict[str, Any]:
    answer = await till.fact(event)
    assert not answer["ok"], answer
    assert answer["problem"]["code"] == "card_number_refused", answer
    assert PAN not in json.dumps(answer)
    return dict(answer["problem"])


def rows(running: Gateway, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{running.config.store_db}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


async def bring_facts(till: PlainTill) -> None:
    """Every field, a number, a key, JSON within a string, an escape, a number as the fact's own id."""
    sale = till.sale(1)
    for change, number in (("text", SPACED), ("item", PAN), ("note", PAN)):
        bad = json.loads(json.dumps(sale))
        bad["data"]["lines"][0][change] = number
        assert (await refused(till, bad))["detail"].startswith(f"data.lines.0.{change}: ")
    fields = {"receipt_number": PAN, "pan": int(PAN), PAN: 1, "x": json.dumps({"y": PAN}), "cvv": 7123}
    for field, value in fields.items():
        bad = json.loads(json.dumps(sale))
        bad["data"][field] = value
        await refused(till, bad)
    paid = {**sale["data"], "kind": "card", "amount_minor": 129, "card": {"masked_number": PAN}}
    assert "data.card.masked_number: " in (await refused(till, {**sale, "type": TENDER, "data": paid}))["detail"]
    await till.client.publish(topics.lane_facts("1"), json.dumps(sale).replace("Text", ESCAPED).encode())
    assert (await till.answer(sale["id"]))["problem"]["code"] == "card_number_refused"
    await till.client.publish(topics.lane_facts("1"), json.dumps(till.sale(1, id=PAN)).encode())
    assert (await till.answer("411111******1111"))["problem"]["code"] == "card_number_refused"
    # what cannot be read, or is too large, is kept masked under its own reason
    for payload in (b'{"broken": "' + PAN.encode(), b'{"pad":"' + b"x" * 70_000 + b" " + PAN.encode() + b'"}'):
        await till.client.publish(topics.lane_facts("1"), payload)
        assert (await till.answer(None))["problem"]["code"] in ("bad_message", "too_large")


async def bring_requests(till: PlainTill) -> None:
    for operation, parameters in (
        ("print", {"document": [{"kind": "text", "text": f"Card {SPACED}"}]}),
        ("print", {"raw": base64.b64encode(b"\x1b@" + PAN.encode() + b"\n").decode()}),
        ("display.show", {"lines": [PAN, ""]}),
        ("price.lookup", {"code": PAN}),
        ("drawer.open", {"reason": f"refund to {PAN}", "operator_id": "c1"}),
    ):
        answer = await till.request(operation, f"r-{operation}", **parameters)
        assert answer["problem"]["code"] == "card_number_refused", (operation, answer)
        assert PAN not in json.dumps(answer)
    unknown = await till.request(PAN, "r-topic")
    assert unknown["problem"]["code"] == "unknown_operation"
    assert PAN not in json.dumps(unknown)


async def test_attack_card_number_through_every_door(tmp_path: Path) -> None:
    """A till brings a card number in every field of facts, requests and presence, and a card is swiped through a
    scanner: each is refused with `card_number_refused` and told to the audit; no file of the store, no log line and
    nothing that the broker keeps holds the number, and the till sells on.
    """
    scanner = VirtualScanner("scanner-1", PtyWire(tmp_path / "ttyscanner"))
    await scanner.open()
    async with gateway(lanes_toml(2) + scanner_toml(tmp_path), folder=tmp_path) as running:
        till = PlainTill(running.address, "1")
        rejected: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        def heard(message: Message) -> None:
            message.ack()
            rejected.put_nowait(json.loads(message.payload))

        till.client.on_message(topics.lane_rejected("1"), heard)
        async with till.client:
            await till.client.wait_connected()
            await bring_facts(till)
            await bring_requests(till)
            presence = json.dumps({"online": True, "app": f"pos {PAN}"}).encode()
            await till.client.publish(topics.lane_presence("1"), presence, retain=True)
            for text in (TRACK, PAN, f"%B{OTHER}^DOE/JOHN^27121010000000000?"):
                scanner.scan(text)
                async with asyncio.timeout(WITHIN_S):
                    told = await rejected.get()
                assert told["code"] == "card_number", told
                assert PAN not in json.dumps(told)
            scanner.scan("4006381333931", "E0")
            async with asyncio.timeout(WITHIN_S):
                topic, scan = await till.heard.get()
            assert (topic, scan["text"], scan["counter"]) == (topics.lane_scans("1"), "4006381333931", 1)
            # selling goes on, with the number that the refused fact would have had
            sale = till.sale(1)
            assert (await till.fact(sale))["ok"]
            card = {"masked_number": "411111******1111", "scheme": "Visa"}
            paid = {**sale["data"], "kind": "card", "amount_minor": 129, "card": card}
            assert (await till.fact({**till.sale(2), "type": TENDER, "data": paid}))["ok"]

        late: list[bytes] = []
        watch = Client(Address(socket=running.config.broker_socket), client_id="late", clean_start=True)
        watch.on_message(topics.LANE_PRESENCE_ANY, lambda message: (message.ack(), late.append(message.payload)))
        async with watch:
            await watch.wait_connected()
            last = b'{"online":false}'
            await watch.publish(topics.lane_presence("2"), last)  # whatever is retained comes before
            await until(lambda: last in late, "the last presence")
        assert late == [last]

        def count(where: str) -> int:
            return int(rows(running, f"SELECT coalesce(sum(count), 0) FROM quarantine WHERE {where}")[0][0])

        await until(lambda: count("code = 'card_number_refused'") == 20, "all of them in quarantine")
        assert count("origin LIKE '%/presence'") == 1
        assert rows(running, "SELECT count(*) FROM lane_gaps") == [(0,)]
        assert rows(running, "SELECT lane_seq FROM facts WHERE lane IS NOT NULL ORDER BY row") == [(1,), (2,)]
        reader = await Reader.open(running.config.store_db)
        payloads = b"\n".join(bad.payload for bad in await reader.quarantine())
        await reader.close()
        assert not [needle for needle in NEEDLES if needle.encode() in payloads]
        assert payloads.count(b"411111******1111") >= 10
        assert b'"cvv":"[cvv]"' in payloads
        assert rows(running, "SELECT count(*) FROM facts WHERE type = 'tillgate.audit.recorded.v1'")[0][0] >= 5
        assert files_that_hold(tmp_path, *NEEDLES) == []
    await scanner.close()
    assert files_that_hold(tmp_path, *NEEDLES) == []


def tender(**card: Any) -> TenderTaken:
    return TenderTaken(
        business_day_date="2026-05-04", operator_id="c1", receipt_number="1-1", kind="card", currency="EUR",
        amount_minor=500, card=CardPayment.model_construct(**card),
    )  # fmt: skip


async def test_the_till_library_refuses_before_anything_is_on_its_disk(tmp_path: Path) -> None:
    async with Till(store="S1", lane="1", ledger_path=tmp_path / "ledger.db", address="127.0.0.1:9") as till:
        for bad in (tender(masked_number=PAN), tender(masked_number=None, note=SPACED), tender(cvv="123")):
            with pytest.raises(CardNumberRefused) as told:
                await till.fact(bad)
            assert told.value.code == "card_number_refused"
            assert PAN not in str(told.value)
            assert "data" not in str(told.value)
        assert till.ledger.last_sequence == 0
        kept = await till.fact(tender(masked_number="411111******1111", scheme="Visa"))
        assert kept.sequence == 1
    assert files_that_hold(tmp_path, PAN, SPACED) == []


async def test_scans_of_goods_are_never_taken_for_cards(tmp_path: Path) -> None:
    goods = ("36011111111119", "I1"), ("4111111111111111", "C1"), ("01340111111111180121", "C1")
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.find("lane-1", "scanner")
        for text, aim in goods:
            counter.scans.scanned(device, Scan(text, text.encode(), aim))
        assert not [kept for kept in counter.quarantined if kept[2] == "card_number_refused"]
        counter.scans.scanned(device, Scan(PAN, PAN.encode(), "C0"))
        await until(lambda: [kept for kept in counter.quarantined if kept[2] == "card_number_refused"], "the card")


async def test_a_notice_or_command_of_hq_that_holds_a_number_is_not_taken(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock(), schemas=[])
    pen = Pen(store)
    taken: list[Any] = []

    async def take(delivery: Any) -> None:
        taken.append(delivery)

    pen.desk.serve("notices", take)
    pen.desk.serve("prices", take)
    answer = await pen.send("notices", {"text": f"refund {SPACED} today"})
    assert not answer["ok"]
    assert PAN not in answer["detail"]
    assert not taken
    assert (await pen.send("prices", {"items": [PAN]}))["ok"], "a price list is full of numbers, and signed"
    await store.close()
    assert files_that_hold(tmp_path, PAN, SPACED) == []


def test_the_frame_of_a_message_from_hq_is_kept_masked() -> None:
    from edge.card_numbers import masked_payload

    message = frame.pack({"stream": "notices", "seq": 1}, orjson.dumps({"text": PAN}))
    assert PAN.encode() not in masked_payload(message)


async def test_the_audit_writes_no_number_down_whoever_says_it() -> None:
    told: list[Any] = []

    def report(data: Any, **_: Any) -> asyncio.Future[Any]:
        told.append(data)
        return asyncio.get_running_loop().create_future()

    audit = Audit(report)
    audit.record(AuditAction.STRANGER_SEEN, "refused", subject=PAN, detail=f"calls itself {SPACED}")
    audit.tell()
    assert PAN not in repr(told)
    assert SPACED not in repr(told)
    assert told[0].detail == "calls itself 4111 11** **** 1111"


async def test_quarantine_masks_origin_reason_and_payload(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock(), schemas=[])
    Quarantine(store).keep(f"lanes/1/requests/{PAN}", "1", "x", f"found {PAN}", PAN.encode())
    await store.close()
    reader = await Reader.open(tmp_path / "store.db")
    (kept,) = await reader.quarantine()
    await reader.close()
    assert PAN not in repr(kept)
    assert repr(kept).count("411111******1111") == 3


def test_log_lines_and_tracebacks_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(LogFilter())
    log = logging.getLogger("test.cards")
    try:
        raise ValueError(f"cannot read {PAN}")
    except ValueError as error:
        log.warning("a till sent %r: %s", {"pan": PAN}, error, exc_info=True, stack_info=True)
    log.warning("%d %s", "x", PAN)
    log.warning("nothing to hide: %s%%", 7)
    text = "".join(caplog.handler.format(record) for record in caplog.records)
    assert PAN not in text
    assert "411111******1111" in text
    assert caplog.records[-1].getMessage() == "nothing to hide: 7%"
    library = guarded("test.cards.library")
    assert guarded("test.cards.library").filters == library.filters
    assert len(library.filters) == 1


_DYING = """
import asyncio, gc, logging, sys, threading
from edge.startup import start_logging
start_logging()
pan = "4111" * 1 + "111111111111"
class Untidy:
    def __del__(self):
        raise ValueError(pan)
thread = threading.Thread(target=lambda: {}[pan]); thread.start(); thread.join()
async def main():
    async def fails(): raise RuntimeError(pan)
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda: int("x" + pan))
    await asyncio.sleep(0)
asyncio.run(main())
del_me = Untidy(); del del_me
logging.error("%s", pan)
raise SystemError(f"dead of {pan}")
"""


def test_attack_crash_report_with_a_card_number_in_it() -> None:
    """Exceptions that nobody caught carry card numbers in their texts, in threads, tasks, callbacks and destructors:
    what the process writes of them is masked.
    """
    died = subprocess.run([sys.executable, "-c", _DYING], capture_output=True, text=True, check=False, timeout=60)
    assert died.returncode == 1
    assert PAN not in died.stderr
    for what in ("KeyError", "RuntimeError", "invalid literal", "ValueError", "SystemError: dead of 411111******1111"):
        assert what in died.stderr, died.stderr
