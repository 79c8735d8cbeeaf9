"""What docs/security.md tells people to do when the gateway was stolen, done: a new box, every till invited again."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
from pathlib import Path

import pytest

from edge.bus.address import Address
from edge.commands.desk import ask
from edge.till import Till, enrol
from edge.till.finding import proven
from edge.till.https import NotBelieved
from edge.till.identity import Identity
from tests.access.store_rig import TlsStore, attempt, tls_store
from tests.faults.store_rig import sale


def address(store: TlsStore) -> str:
    return f"mqtts://127.0.0.1:{store.running.config.bus.port}"


async def enrolled(store: TlsStore, folder: Path) -> None:
    """Invite lane 1, enrol the till in `folder` at it."""
    made = await ask(store.running.config, "lanes.invite", {"lane": "1"}, 20)
    await enrol(made["code"], folder, host="127.0.0.1", port=store.running.config.enrolment.port)


async def test_attack_stolen_gateway_put_back_on_the_network(tmp_path: Path) -> None:
    """Somebody has the old box, key and all, and switches it on beside the new one: tills that have enrolled
    anew do not believe it, the new one lets in nobody whom it certifies, and has what tills had not handed over.
    """
    identity, ledger = tmp_path / "identity", tmp_path / "till.db"
    for box in ("old", "new"):
        (tmp_path / box).mkdir()
    async with tls_store(tmp_path / "old") as old:
        await enrolled(old, identity)
        async with Till(identity=identity, ledger_path=ledger, address=address(old)) as till:
            await (await till.fact(sale(1))).accepted()
    async with Till(identity=identity, ledger_path=ledger, address=address(old)) as till:
        await till.fact(sale(2))  # nobody is there to take it
    async with tls_store(tmp_path / "new") as new:
        await enrolled(new, identity)
        async with Till(identity=identity, ledger_path=ledger, address=address(new)) as till:
            await (await till.fact(sale(3))).accepted()
        state = new.running.config.state_dir
        with sqlite3.connect(f"file:{state}/store.db?mode=ro", uri=True) as db:
            kept = db.execute("SELECT lane_seq FROM facts WHERE lane = '1' ORDER BY lane_seq").fetchall()
        assert kept == [(2,), (3,)]
        async with tls_store(tmp_path / "old") as thief:
            with pytest.raises(NotBelieved):
                await proven(Address.parse(address(thief), Identity.load(identity).tls()))
            forged = thief.till("2").files().context()
            forged.check_hostname, forged.verify_mode = False, ssl.CERT_NONE
            said = await asyncio.to_thread(attempt, new.running.config.bus.port, forged, None)
            assert said != "let in"
            own = await asyncio.to_thread(attempt, thief.running.config.bus.port, forged, None)
            assert own == "let in", "there it is a lane"
