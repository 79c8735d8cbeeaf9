"""Card numbers beyond the gateway's doors: keys of a keyboard scanner, recordings, the till's ledger, HQ."""

from __future__ import annotations

import asyncio
import logging
import struct
import sys
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from cloud_bridge.hq import commands, notices, schema
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.record import Recorder
from cloud_bridge.hq.schema import open_engine
from drivers.events import Noise
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import PtyWire, UnixWire
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.card_guard import LogFilter
from edge.devices import typed_cards
from edge.till.ledger import Answer, FactState, Ledger
from tests.access.test_card_numbers_doors import PAN, SPACED, files_that_hold, scanner_toml
from tests.cloud_bridge.rig import STORE, bodies
from tests.cloud_bridge.test_record import Journal
from tests.drivers.rig import Heard, running
from tests.drivers.test_keyboard_scanner import keyboard_at


async def test_keys_that_type_a_card_number_are_known_on_every_layout(tmp_path: Path) -> None:
    """A track that is not understood is noise; its keys say the number as well as its text would."""
    for layout in ("us", "de", "fr"):
        twin, heard = VirtualKeyboard("k", UnixWire(tmp_path / f"{layout}.events"), layout=layout), Heard()
        await twin.open()
        async with running(keyboard_at(Path(twin.wire.address), heard, layout=layout)):
            for text in (f";{PAN}={'y' * 27}", "40063813339314006381333931"):
                await twin.do("cut_scan", {"text": text})
                noise = (await heard.of(Noise))[-1]
                assert typed_cards.in_keys(noise.raw) is (PAN in text), text
                heard.events.clear()
        await twin.close()


def test_records_of_the_kernel_that_type_a_card_number() -> None:
    strokes = [2 + (int(digit) - 1) % 10 for digit in PAN]
    record = struct.Struct("llHHi")
    sent = b"".join(record.pack(1, 2, 1, code, value) for code in strokes for value in (1, 0))
    assert typed_cards.in_records(sent + b"half")
    assert not typed_cards.in_records(sent[: len(sent) // 2])


async def test_attack_card_swiped_while_a_technician_records_the_scanner(tmp_path: Path) -> None:
    """A card is swiped while `tillgate devices record` listens: the capture is not saved, and the reason is said."""
    config = tmp_path / "store.toml"
    config.write_text(f'state_dir = "state"\n[store]\nid = "S1"\n[[lanes]]\nid = "1"\n{scanner_toml(tmp_path)}')
    scanner = VirtualScanner("scanner-1", PtyWire(tmp_path / "ttyscanner"))
    await scanner.open()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", "devices", "--config", str(config), "record", "scanner-1",
        str(tmp_path / "capture"), "--seconds", "3",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    telling = asyncio.create_task(process.communicate())
    while not telling.done():
        scanner.scan(f";{PAN}=27121010000000000000?")
        await asyncio.sleep(0.1)
    out, errors = telling.result()
    assert process.returncode == 2, errors
    assert b"card" in errors
    assert PAN.encode() not in out + errors
    assert files_that_hold(tmp_path, PAN) == []
    await scanner.close()


async def test_a_refused_fact_of_an_older_till_is_masked_in_its_ledger(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "till.db", "S1", "1")
    for number in range(50):
        text = SPACED if number == 7 else "pen"
        await ledger.add("tillgate.sale.voided.v1", {"receipt_number": f"r-{number}", "reason": text, "pan": PAN})
    refused = {"code": "card_number_refused", "detail": "data.pan: holds a card number"}
    await ledger.settle([Answer(number, FactState.REFUSED, refused) for number in range(1, 51)])
    assert files_that_hold(tmp_path, PAN, SPACED) == []
    assert (await ledger.count())[FactState.REFUSED] == 50
    await ledger.close()
    ledger = await Ledger.open(tmp_path / "till.db", "S1", "1")
    assert ledger.last_sequence == 50
    await ledger.close()


def test_hq_loses_no_fact_that_a_store_has_accepted_and_says_that_it_holds_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(LogFilter())
    items = bodies(1, 10)
    event = orjson.loads(items[4])
    items[4] = envelope.canonical({**event, "data": {**event["data"], "note": SPACED}})
    engine = open_engine(f"sqlite:///{tmp_path}/hq.db")
    with caplog.at_level(logging.ERROR):
        outcome = Recorder(engine).record([Journal(items).cut(1, 10)])
    (told,) = outcome.values()
    assert told.confirmed[FactClass.TRANSACTION] == 10
    with engine.connect() as db:
        assert len(db.execute(select(schema.facts.c.seq)).all()) == 10
    (line,) = [record.getMessage() for record in caplog.records if "card data" in record.getMessage()]
    assert f"store {STORE}: 1 of its facts" in line
    assert "transaction 5" in line
    assert "data.note: holds a card number" in line
    assert SPACED not in caplog.text
    engine.dispose()


def test_hq_says_nothing_to_a_store_that_holds_a_number(tmp_path: Path) -> None:
    engine, key = open_engine(f"sqlite:///{tmp_path}/hq.db"), Ed25519PrivateKey.generate()
    to = Recipient(store="S1")
    with pytest.raises(notices.BadNotice, match=r"text: holds a card number") as told:
        notices.publish(
            engine, key, to, id_="n", text=f"look for {SPACED}", level="info", until="2099-01-01T00:00:00.000Z"
        )
    assert SPACED not in str(told.value)
    with pytest.raises(commands.BadCommand, match="holds a card number"):
        commands.give(engine, key, to, "device.test", {"device": PAN}, by="me", lifetime=timedelta(hours=1))
    engine.dispose()
    assert files_that_hold(tmp_path, PAN, SPACED) == []
