"""The authority at work in a running store: mosquitto, edge, tills with certificates."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from edge import cli
from edge.access.broker_identity import BrokerIdentity, reload_broker
from edge.commands.desk import Refused, ask
from tests.access.keys import csr, lane_key, text_of, verified
from tests.access.store_rig import entered, greeted, tls_store
from tests.faults.store_rig import until


async def test_a_lane_renews_its_certificate_on_the_bus(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        till = store.till("3")
        async with entered(till) as client:
            key = lane_key()
            reply = await till.ask(client, "certificate.renew", {"csr": csr(key).decode()})
            assert reply["ok"], reply
            fresh = reply["result"]
            said = verified(tmp_path, fresh["certificate"], trusted=fresh["trusted"], purpose="sslclient")
            assert said == "OK"
            assert "Subject: CN=3" in text_of(fresh["certificate"])
            again = await till.ask(client, "certificate.renew", {"csr": csr(key).decode()})
            assert again["result"]["certificate"] == fresh["certificate"]
            till.key, till.chain = key, fresh["certificate"]
            assert till.reaches() == "let in"
            # Nobody needs more than a few a day; what is asked for again and again is refused, and nothing else is.
            for _ in range(4):
                reply = await till.ask(client, "certificate.renew", {"csr": csr(lane_key()).decode()})
                assert reply["ok"], reply
            refused = await till.ask(client, "certificate.renew", {"csr": csr(lane_key()).decode()})
            assert refused["problem"]["code"] == "too_fast"
            assert (await till.ask(client, "help", {}))["ok"]


async def test_a_rotation_loses_nobody_and_interrupts_nothing(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        config, till, asleep = store.running.config, store.till("1"), store.till("2")
        broker, edge = store.running.pid("broker"), store.running.pid("edge")
        async with entered(till) as client:
            before = store.authority.fingerprint
            await until(till.told, "store/authority")
            assert till.told()[-1]["fingerprint"] == before
            made = (await ask(config, "authority.rotate", {}, 20))["fingerprint"]
            await until(lambda: till.told()[-1]["fingerprint"] == made, "the new authority is told")
            told = till.told()[-1]
            assert told["former"] == before
            # It believes the new one because the old one has signed it; both are in what it was told.
            await asyncio.to_thread(store.authority.refresh)
            certificate = BrokerIdentity.of(config.state_dir).certificate
            await until(
                lambda: verified(tmp_path, certificate.read_text(), trusted=store.authority.book.current.certificate,
                                 purpose="sslserver") == "OK",
                "the broker's certificate is by the new authority",
            )  # fmt: skip
            # Who knows only the old authority still gets in, and believes the broker.
            assert asleep.reaches() == "let in"
            shown = await ask(config, "authority.show", {}, 20)
            assert {row["lane"]: row["authority"] for row in shown["lanes"]} == {"1": "former", "2": "former"}
            key = lane_key()
            fresh = (await till.ask(client, "certificate.renew", {"csr": csr(key).decode()}))["result"]
            till.key, till.chain, till.trusted = key, fresh["certificate"], fresh["trusted"]
            assert till.reaches() == "let in"
            shown = await ask(config, "authority.show", {}, 20)
            assert {row["lane"]: row["authority"] for row in shown["lanes"]} == {"1": "current", "2": "former"}
            dropped = await ask(config, "authority.drop", {}, 20)
            assert dropped == {"fingerprint": before, "lanes": ["2"]}
            await until(lambda: asleep.reaches() != "let in", "what the former authority signed counts no more")
            assert till.reaches() == "let in"
        assert (store.running.pid("broker"), store.running.pid("edge")) == (broker, edge), "nothing was started again"


async def test_the_brokers_certificate_is_replaced_while_everything_runs(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        config, till = store.running.config, store.till("3")
        pids = store.running.pid("broker"), store.running.pid("edge")
        identity = BrokerIdentity.of(config.state_dir)
        async with entered(till) as client:
            for spoil in (identity.certificate.unlink, lambda: identity.certificate.write_text("spoilt")):
                before = served(config.bus.port)
                spoil()
                await until(lambda before=before: served(config.bus.port) != before, "another certificate is served")
                assert till.reaches() == "let in"
            # A list that somebody has emptied is put back, and the broker reads it again.
            await asyncio.to_thread(store.authority.revoke_lane, "2", "gone")
            (config.access_dir / "revoked.crl").unlink()
            await until((config.access_dir / "revoked.crl").exists, "the list is there again")
            assert (await till.ask(client, "help", {}))["ok"]
        assert (store.running.pid("broker"), store.running.pid("edge")) == pids, "nothing was started again"


def served(port: int) -> str:
    """The certificate that the broker shows now, "" while it shows none."""
    try:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
    except OSError:
        return ""


async def test_a_lane_that_is_revoked_is_out_at_once_and_may_enrol_again(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        config, stolen, honest = store.running.config, store.till("1"), store.till("2")
        async with entered(honest) as other, entered(stolen) as client:
            assert (await stolen.ask(client, "help", {}))["ok"]
            ended, honest_ended = asyncio.Event(), asyncio.Event()
            client.on_disconnect.append(lambda _: ended.set())
            other.on_disconnect.append(lambda _: honest_ended.set())
            assert (await ask(config, "lanes.revoke", {"lane": "1"}, 20)) == {"lane": "1", "revoked": 1}
            async with asyncio.timeout(60):
                await ended.wait()  # the connection that stood
            await until(lambda: "revoked" in greeted(config.bus.port, stolen.files()), "no new connection")
            await until(lambda: not client.connected, "it stays out")
            assert (await honest.ask(other, "help", {}))["ok"]
            assert not honest_ended.is_set(), "nobody else is interrupted"
        shown = await ask(config, "authority.show", {}, 20)
        assert {row["lane"]: row["state"] for row in shown["lanes"]} == {"1": "revoked", "2": "valid"}
        await asyncio.to_thread(store.authority.refresh)
        again = store.till("1")  # certified beside edge, which finds it when it looks next
        async with asyncio.timeout(60):
            while (await ask(config, "authority.show", {}, 20))["lanes"][0]["state"] != "valid":
                await asyncio.sleep(0.1)
        async with entered(again) as client:
            assert (await again.ask(client, "help", {}))["ok"]


async def test_a_till_of_a_lane_that_was_taken_out_of_the_store_is_seen_and_revoked(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        config, gone = store.running.config, store.till("express")
        listed = (await ask(config, "lanes.list", {}, 20))["lanes"]
        assert {row["lane"]: row["name"] for row in listed}["express"] == "not in store.toml: revoke it"
        assert gone.reaches() == "let in"
        assert (await ask(config, "lanes.revoke", {"lane": "express"}, 20)) == {"lane": "express", "revoked": 1}
        await until(lambda: gone.reaches() != "let in", "its certificate counts no more")
        assert "express" not in {row["lane"] for row in (await ask(config, "lanes.list", {}, 20))["lanes"]}
        with pytest.raises(Refused, match="there is no lane 'nobody'"):
            await ask(config, "lanes.revoke", {"lane": "nobody"}, 20)


async def test_a_lane_that_was_shut_out_before_it_ever_had_a_till_takes_its_first_one(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        assert (await ask(store.running.config, "lanes.revoke", {"lane": "1"}, 20)) == {"lane": "1", "revoked": 0}
        first = store.till("1")
        async with entered(first) as client:
            assert (await first.ask(client, "help", {}))["ok"]


async def test_a_technician_sees_and_replaces_the_authority_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with tls_store(tmp_path) as store:
        store.till("1")
        file = str(store.running.config.file)

        async def said(*words: str) -> tuple[int, str]:
            status = await asyncio.to_thread(cli.main, ["access", "authority", *words, "--config", file])
            shown = capsys.readouterr()
            return status, shown.out + shown.err

        first = store.authority.fingerprint
        status, text = await said("show")
        assert status == 0
        assert first[:4] in text
        assert "1                valid               89  current" in text
        assert (await said("drop"))[0] != 0, "there is none to drop"
        status, text = await said("rotate")
        assert status == 0
        assert "Tills follow as they are switched on" in text
        status, text = await said("rotate")
        assert (status, "a rotation is on for 90 more days" in text) == (1, True)
        status, text = await said("show")
        assert "former" in text
        assert "believed for 90 more days" in text
        assert "1                valid               89  former" in text
        status, text = await said("drop")
        assert (status, "To be enrolled again: lanes 1" in text) == (0, True)
        status, text = await said("rotate", "--anew", "--yes")
        assert (status, "tillgate lanes invite LANE" in text) == (0, True)
        status, text = await said("show")
        assert "no lane has a certificate yet" in text
        actions = [
            row[0]
            for row in await asyncio.to_thread(
                store.running.rows, "SELECT type FROM facts WHERE type LIKE 'tillgate.audit.recorded%'"
            )
        ]
        assert len(actions) >= 3, "rotated, dropped, made anew: each is recorded"


async def test_tables_of_trust_that_are_gone_keep_no_till_from_selling(tmp_path: Path) -> None:
    """People, invitations and what is noted for the audit cannot be read: edge starts, and tills are served."""
    async with tls_store(tmp_path) as store:
        till, path = store.till("1"), store.running.config.store_db
    with closing(sqlite3.connect(path)) as db:
        for table in ("people", "sessions", "wrong_tries", "lanes_seen", "invitations", "configured"):
            db.execute(f"DROP TABLE {table}")
    async with tls_store(tmp_path), entered(till) as client:
        assert (await till.ask(client, "help", {}))["ok"]


async def test_a_broker_that_no_pid_file_names_is_not_looked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mosquitto runs here, and is perhaps somebody else's: only the one of run/broker.pid is told, and it is said."""
    broker = await asyncio.create_subprocess_exec(
        shutil.which("mosquitto") or "/usr/sbin/mosquitto",
        "-c",
        str(_conf(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert broker.stderr is not None
    try:
        while b"running" not in await asyncio.wait_for(broker.stderr.readline(), 20):
            pass
        file = tmp_path / "broker.pid"
        for content in (None, "", "x", str(os.getpid()), str(2**22 + 1)):
            if content is not None:
                file.write_text(content)
            caplog.clear()
            assert not reload_broker(tmp_path, "a lane was revoked")
            (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
            assert "the broker was not told (a lane was revoked)" in said.getMessage()
        file.write_text(str(broker.pid))
        caplog.clear()
        assert reload_broker(tmp_path, "a lane was revoked")
        assert caplog.records == []
        heard = b""
        while b"Reloading" not in heard:
            heard += await asyncio.wait_for(broker.stderr.readline(), 20)
    finally:
        broker.terminate()
        rest = await broker.stderr.read()
        await broker.wait()
    assert b"Reloading" not in rest


def _conf(folder: Path) -> Path:
    file = folder / "mosquitto.conf"
    file.write_text(f"listener 0 {folder / 'b.sock'}\nallow_anonymous true\nuser root\nlog_dest stderr\nlog_type all\n")
    return file
