"""Tills as they are sold, enrolled with a code, against a running gateway whose clock jumps: they sell on and heal."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from edge.commands.desk import ask
from edge.till import Till, enrol
from tests.access.store_rig import TlsStore, tls_store
from tests.faults.store_rig import sale, until

YEAR_S = 365.25 * 86_400


async def enrolled(store: TlsStore, lane: str, written: str = "code") -> Path:
    """Invite this lane and enrol a till at it, by the typed code or the QR code's text; where its identity lies."""
    config = store.running.config
    made = await ask(config, "lanes.invite", {"lane": lane}, 20)
    folder = store.folder / f"till-{lane}"
    await enrol(made[written], folder, host="127.0.0.1", port=config.enrolment.port)
    return folder


async def test_the_gateways_clock_a_year_ahead_stops_no_sale_and_the_tills_let_themselves_in_again(
    tmp_path: Path,
) -> None:
    async with tls_store(tmp_path) as store:
        running, config = store.running, store.running.config
        there, away = await enrolled(store, "1"), await enrolled(store, "2")
        own = f"mqtts://127.0.0.1:{config.bus.port}"
        async with Till(identity=there, ledger_path=tmp_path / "1.db", address=own) as till:
            await (await till.fact(sale(1))).accepted()
            running.shim.jump(YEAR_S)
            await (await till.fact(sale(2))).accepted()
            await until(lambda: store.warned("lanes.certificates.expired"), "the fault is plain")
            # The broker is started again: everybody has to come in anew, with certificates that have expired.
            broker = running.pid("broker")
            os.kill(broker, signal.SIGKILL)
            await (await till.fact(sale(3))).accepted()
            # One that was switched off all the while comes too.
            async with Till(identity=away, ledger_path=tmp_path / "2.db", address=own) as other:
                await (await other.fact(sale(4))).accepted()
                await until(lambda: not store.warned("lanes.certificates.expired"), "all is well by that clock")
                # And back: the clock is set right.
                running.shim.jump(0)
                running.shim.synced(True)
                now = running.pid("broker")
                os.kill(now, signal.SIGKILL)
                await (await till.fact(sale(5))).accepted()
                await (await other.fact(sale(6))).accepted()


async def test_a_rotation_is_followed_by_tills_as_they_are_sold(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        config = store.running.config
        folder = await enrolled(store, "1")
        own = f"mqtts://127.0.0.1:{config.bus.port}"
        async with Till(identity=folder, ledger_path=tmp_path / "1.db", address=own) as till:
            await (await till.fact(sale(1))).accepted()
            await ask(config, "authority.rotate", {}, 20)

            def followed() -> bool:
                store.authority.refresh()
                return store.authority.following() == {"1": True}

            await until(followed, "the till follows by itself")
            # Who enrols meanwhile is of the new authority from the start.
            for lane, written in (("2", "code"), ("3", "text")):
                identity = await enrolled(store, lane, written)
                async with Till(identity=identity, ledger_path=tmp_path / f"{lane}.db", address=own) as other:
                    await (await other.fact(sale(1))).accepted()
            await asyncio.to_thread(store.authority.refresh)
            assert store.authority.following() == {"1": True, "2": True, "3": True}
            dropped = await ask(config, "authority.drop", {}, 20)
            assert dropped["lanes"] == []
            await (await till.fact(sale(2))).accepted()
        async with Till(identity=folder, ledger_path=tmp_path / "1.db", address=own) as till:
            await (await till.fact(sale(3))).accepted()
