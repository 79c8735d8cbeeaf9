"""The whole way against a running gateway: invited at the command line, enrolled by two tills that share no code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client
from edge.children import DIE_WITH_PARENT
from edge.config import StoreConfig, load
from edge.till import Identity, Till, enrol, keypair
from tests.edge.bus_rig import connected, until

OTHER = Path(__file__).with_name("other_till.sh")
WITHIN_S = 60.0
SALE = {
    "business_day_date": "2026-05-04", "operator_id": "anna", "receipt_number": "1", "currency": "EUR",
    "lines": [{"line": 1, "item": "4006381333931", "text": "Pen", "quantity": "1", "unit_price_minor": 199,
               "amount_minor": 199}],
    "total_minor": 199,
}  # fmt: skip


@dataclass
class Running:
    """`tillgate run` in `folder`; `command` is the command line beside it."""

    folder: Path
    config: StoreConfig

    async def says(self, what: bytes) -> None:
        """Wait until its log says this."""
        await until(lambda: what in (self.folder / "log").read_bytes(), WITHIN_S)

    async def command(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        """Run `tillgate lanes ...`; exit status and what it printed."""
        program = [sys.executable, "-m", "edge.cli", *words, "--config", str(self.config.file)]
        return await run(*program, stdin=stdin)

    async def invite(self, lane: str) -> dict[str, Any]:
        """A fresh invitation, as a program is told it."""
        status, said = await self.command("lanes", "invite", lane, "--json")
        assert status == 0, said
        made: dict[str, Any] = json.loads(said)
        return made


async def run(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        said, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, *free_ports(2)) as one:
        await one.says(b"tills enrol on")
        yield one


@contextlib.asynccontextmanager
async def running(folder: Path, bus: int, enrolling: int) -> AsyncIterator[Running]:
    """`tillgate run` with these ports, once it serves."""
    file = folder / "store.toml"
    file.write_text(
        f'state_dir = "s"\n[store]\nid = "S0001"\n[bus]\nhost = "127.0.0.1"\nport = {bus}\nadvertise = false\n'
        f'[enrolment]\nport = {enrolling}\n[[lanes]]\nid = "3"\n[[lanes]]\nid = "4"\n'
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *DIE_WITH_PARENT, sys.executable, "-m", "edge.cli", "run", "--config", str(file),
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ,
        )  # fmt: skip
    try:
        one = Running(folder, load(file))
        await one.says(b"serving lanes")
        yield one
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_a_till_in_another_language_enrols_hears_a_scan_sells_and_renews(store: Running) -> None:
    folder = str(store.folder / "other")
    made = await store.invite("3")
    waiting = asyncio.create_task(
        store.command("lanes", "invite", "4"), name="invited"
    )  # another lane's, meanwhile; withdrawn below
    status, said = await run(str(OTHER), "enrol", folder, stdin=f"{made['text']}\n".encode())
    assert (status, said) == (0, "lane 3 of store S0001\n")
    hearing = asyncio.create_task(run(str(OTHER), "scan", folder))
    scan = {
        "scan_id": "s1", "counter": 1, "text": "4006381333931", "symbology": "]E0", "captured_at":
        "2026-05-04T09:30:00.000Z", "device": "scanner-1",
    }  # fmt: skip
    async with connected(Client(Address(socket=store.config.broker_socket), client_id="scanner")) as scanner:

        async def heard() -> bool:
            await scanner.publish(topics.lane_scans("3"), orjson.dumps(scan))
            await asyncio.wait([hearing], timeout=0.2)
            return hearing.done()

        async with asyncio.timeout(WITHIN_S):
            while not await heard():
                pass
    assert await hearing == (0, "4006381333931\n")
    status, said = await run(str(OTHER), "say", folder, "tillgate.sale.completed.v1", "1", json.dumps(SALE))
    assert status == 0, said
    assert json.loads(said)["result"]["accepted"] is True
    before = (store.folder / "other" / "till.pem").read_bytes()
    assert await run(str(OTHER), "renew", folder) == (0, "")
    assert (store.folder / "other" / "till.pem").read_bytes() != before
    status, said = await run(str(OTHER), "say", folder, "tillgate.sale.completed.v1", "2", json.dumps(SALE))
    assert json.loads(said)["ok"] is True, "the renewed certificate is let in"
    assert (await run(str(OTHER), "enrol", folder + "2", stdin=f"{made['code']}\n".encode()))[0] == 1
    await store.command("lanes", "revoke", "4")
    status, said = await waiting
    assert status == 1
    assert "lane 4 has not enrolled: replaced or withdrawn" in said


async def test_both_tills_say_the_same_of_a_mistyped_code(store: Running) -> None:
    made = await store.invite("3")
    code = made["code"]
    wrong = code[:5] + ("A" if code[5] != "A" else "B") + code[6:]
    status, said = await run(str(OTHER), "enrol", str(store.folder / "o"), stdin=f"{wrong}\n".encode())
    assert (status, "typing error" in said) == (1, True)
    with pytest.raises(ValueError, match="typing error"):
        await enrol(wrong, store.folder / "i")


async def test_a_lane_is_invited_enrolled_listed_and_revoked_from_the_command_line(store: Running) -> None:
    picture, page = store.folder / "3.png", store.folder / "3.html"
    for option, file in (("--png", picture), ("--html", page)):
        status, said = await store.command("lanes", "invite", "3", option, str(file), "--no-wait")
        assert status == 0, said
        assert file.stat().st_mode & 0o777 == 0o600, "whoever reads it is that lane"
    import zxingcpp
    from PIL import Image

    (found,) = zxingcpp.read_barcodes(Image.open(picture).convert("L"))
    assert (await enrol_refused(found.text, store)) == "unknown_invitation", "the page's code has replaced it"
    waiting = asyncio.create_task(store.command("lanes", "invite", "3"))
    await asyncio.sleep(0)
    status, said = await store.command("lanes", "list", "--json")
    assert [row["state"] for row in json.loads(said)["lanes"]] == ["none", "none"]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    made = await store.invite("3")
    identity = await enrol(made["text"], store.folder / "till")
    assert (await store.command("lanes", "invite", "nobody"))[0] == 1
    async with Till(
        identity=store.folder / "till", ledger_path=store.folder / "l.db", address=identity.bus()
    ) as till:  # fmt: skip
        await until(lambda: till.gateway_online)
        status, said = await store.command("lanes", "list")
        assert [line.split()[:2] for line in said.splitlines()[1:]] == [["3", "valid"], ["4", "no"]]
        assert "now" in said
    status, said = await store.command("lanes", "revoke", "3")
    assert status == 0
    assert "lane 3 is shut out" in said
    async with Till(
        identity=store.folder / "till", ledger_path=store.folder / "l.db", address=identity.bus()
    ) as till:  # fmt: skip
        await until(lambda: "revoked" in till.certificate_problem)
        assert not till.connected
    status, said = await store.command("lanes", "list", "--json")
    assert [row["state"] for row in json.loads(said)["lanes"]] == ["revoked", "none"]
    again = await store.invite("3")
    assert (await enrol(again["text"], store.folder / "till")).lane == "3", "the lane goes on with another key"


async def test_a_till_renews_on_the_bus_in_time_and_follows_a_new_authority(store: Running) -> None:
    made = await store.invite("3")
    identity = await enrol(made["text"], store.folder / "till")
    first = identity.pem
    now = datetime.now(UTC)  # what is left is less than a third:
    old = replace(
        identity,
        issued_at=(now - timedelta(days=65)).isoformat(),
        not_after=(now + timedelta(days=25)).isoformat(),
    )
    async with Till(identity=old, ledger_path=store.folder / "l.db", address=identity.bus()) as till:
        await until(lambda: identity.pem != first)
        renewed, trusted = identity.pem, identity.trusted
        status, said = await store.command("access", "authority", "rotate")
        assert status == 0, said
        await until(lambda: identity.pem != renewed)
        followed = Identity.load(store.folder / "till")
        assert len(keypair.fingerprints(followed.trusted)) == 2
        assert set(keypair.fingerprints(trusted)) < set(keypair.fingerprints(followed.trusted))
        assert keypair.issuer_of(followed.pem, followed.trusted) not in keypair.fingerprints(trusted)
        assert till.connected, "and was never off the bus for it"
    async with Till(identity=followed, ledger_path=store.folder / "l.db", address=identity.bus()) as till:
        await until(lambda: till.gateway_online)


async def test_a_taken_port_is_told_and_ends_nothing(tmp_path: Path) -> None:
    bus, enrolling = free_ports(2)

    async def warned() -> list[str]:
        _, said = await run(
            sys.executable, "-m", "edge.cli", "status", "--json", "--config", str(tmp_path / "store.toml")
        )
        return [warning["code"] for warning in json.loads(said)["gateway"]["warnings"]]

    with socket.create_server(("127.0.0.1", enrolling)) as taken:
        async with running(tmp_path, bus, enrolling) as store:
            await store.says(b"enrolment is lost")
            assert await warned() == ["enrolment_closed"]
            status, said = await store.command("lanes", "invite", "3", "--json")
            assert (status, "not_ready" in said) == (1, True)
            taken.close()
            await store.says(b"tills enrol on")
            assert await warned() == []
            assert (await enrol((await store.invite("3"))["text"], tmp_path / "till")).lane == "3"


async def enrol_refused(text: str, store: Running) -> str:
    from edge.till import NotEnrolled

    with pytest.raises(NotEnrolled) as no:
        await enrol(text, store.folder / "nobody")
    return no.value.code
