"""HQ's commands at the store: believed only when signed for it, run once, over in time, answered and audited."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus.envelope import new_id
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services import commands as commands_module
from edge.services.commands import COMMANDS_SCHEMA, Commands
from edge.services.facts import Reporter
from tests.edge.hq_rig import BEGAN, EPOCH, Pen, Turnable, until, utc

RECEIVED, FINISHED = "tillgate.command.received.v1", "tillgate.command.finished.v1"


class Gateway:
    """One gateway's commands on a real store. `done` holds (operation, command id) of each run."""

    def __init__(self, store: Store, hands: Turnable) -> None:
        self.store = store
        self.hands = hands
        self.pen = Pen(store)
        self.done: list[tuple[str, str]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.commands = self._made()

    def _made(self) -> Commands:
        made = Commands(self.store, self.hands.clock, self.pen.believed, Reporter(self.store, "S1"))
        made.serve({"status.report": self._report, "device.test": self._test, "journal.verify": self._verify})
        self.pen.desk.serve("commands", made.take)
        return made

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """One life of the process."""
        self.commands = self._made()
        await self.commands.load()
        running = asyncio.create_task(self.commands.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.commands.stop()

    async def _report(self, id_: str, _: Any) -> dict[str, Any]:
        self.done.append(("status.report", id_))
        await self.hold.wait()
        return {"state": "serving"}

    async def _test(self, id_: str, parameters: Any) -> dict[str, Any]:
        if parameters.device == "gone":
            raise ProblemError(Code.NOT_FOUND, "there is no such device")
        if parameters.device == "broken":
            raise ZeroDivisionError
        self.done.append(("device.test", id_))
        await self.hold.wait()
        return {"tried": parameters.device}

    async def _verify(self, id_: str, _: Any) -> dict[str, Any]:
        return {"text": "x" * 100_000}

    def command(self, operation: str, parameters: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return {
            "type": "tillgate.command.v1",
            "id": new_id(),
            "operation": operation,
            "parameters": parameters or {},
            "by": "anna",
            "issued_at": utc(BEGAN),
            "expires_at": utc(BEGAN.replace(hour=BEGAN.hour + 1)),
            **changes,
        }

    async def finished(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(30):
            while len(found := await self.pen.facts(FINISHED)) < count:
                await asyncio.sleep(0.01)
        return found


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Gateway]:
    hands = Turnable()
    store = await Store.open(tmp_path / "store.db", "S1", clock=hands.clock, schemas=[("commands-1", COMMANDS_SCHEMA)])
    yield Gateway(store, hands)
    await store.close()


async def test_a_command_is_received_run_once_and_answered(one: Gateway) -> None:
    command = one.command("device.test", {"device": "scanner-1"})
    async with one.alive():
        assert (await one.pen.send("commands", command))["ok"]
        (answer,) = await one.finished(1)
        assert answer == {
            "command": command["id"],
            "operation": "device.test",
            "ok": True,
            "result": {"tried": "scanner-1"},
            "problem": None,
        }
        # The same again: byte for byte, as the bridge does after a crash, and under a new number, as HQ never does.
        one.pen.seq -= 1
        assert (await one.pen.send("commands", command))["ok"]
        assert (await one.pen.send("commands", command))["ok"]
    async with one.alive():
        assert (await one.pen.send("commands", command))["ok"]
        await one.pen.send("commands", one.command("status.report"))
        await one.finished(2)
    assert one.done.count(("device.test", command["id"])) == 1
    received = await one.pen.facts(RECEIVED)
    assert [fact["command"] for fact in received].count(command["id"]) == 1
    assert received[0]["by"] == "anna"
    of_commands = "SELECT type FROM facts WHERE type LIKE '%command%' ORDER BY seq"
    kinds = [row[0] for row in await one.store.fetch_all(of_commands)]
    assert kinds[:2] == [RECEIVED, FINISHED]


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("device.test", {"device": "gone"}, "not_found"),
        ("device.test", {"device": "broken"}, "faulted"),
    ],
)
async def test_what_cannot_be_done_is_answered_with_its_code(
    one: Gateway, operation: str, parameters: dict[str, Any], code: str
) -> None:
    async with one.alive():
        assert (await one.pen.send("commands", one.command(operation, parameters)))["ok"]
        (answer,) = await one.finished(1)
    assert (answer["ok"], answer["problem"]["code"]) == (False, code)


@pytest.mark.parametrize(
    ("changes", "header", "code"),
    [
        ({"operation": "shop.burn"}, {}, "unknown_operation"),
        ({"operation": "device.identify"}, {}, "unknown_operation"),  # known to HQ, not served by this gateway
        ({"operation": "device.test"}, {}, "bad_message"),
        ({"operation": "status.report", "parameters": {"more": 1}}, {}, "bad_message"),
        ({"store": "S2"}, {}, "not_yours"),
        ({"store": "S1"}, {"group": "north"}, "not_yours"),
        ({"group": "south"}, {"group": "south"}, "not_yours"),
        ({"group": "north"}, {}, "not_yours"),
        ({"expires_at": utc(BEGAN)}, {}, "expired"),
    ],
)
async def test_a_command_that_is_not_for_here_and_now_is_refused(
    one: Gateway, changes: dict[str, Any], header: dict[str, Any], code: str
) -> None:
    command = {**one.command("status.report"), **changes}
    async with one.alive():
        assert not (await one.pen.send("commands", command, **header))["ok"]
        (answer,) = await one.finished(1)
        assert (answer["command"], answer["problem"]["code"]) == (command["id"], code)
        one.pen.seq -= 1
        assert (await one.pen.send("commands", command, **header))["ok"], "answered once"
    assert one.done == []
    assert len(await one.pen.facts(FINISHED)) == 1


async def test_a_group_speaks_to_its_stores(one: Gateway) -> None:
    async with one.alive():
        assert (await one.pen.send("commands", one.command("status.report", group="north"), group="north"))["ok"]
        assert (await one.finished(1))[0]["ok"]
    assert (await one.pen.facts(RECEIVED))[0]["group"] == "north"


async def test_nobody_else_can_command_and_a_flood_of_forgeries_stays_small(
    one: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "FORGED_KEPT", 5)
    stranger = Ed25519PrivateKey.generate()
    fields = {"epoch": EPOCH, "seq": 1, "store": "S1", **one.command("status.report")}
    text = json.dumps(fields, sort_keys=True)
    forged = [
        one.pen.signed(text, stranger),
        one.pen.signed(text).replace(b"status.report", b"journal.verify"),
        b"nonsense",
        one.pen.signed("{}"),
        one.pen.signed(json.dumps({**fields, "type": "tillgate.notice.v1"})),
    ]
    async with one.alive():
        for body in forged:
            assert not (await one.pen.hand_over("commands", body, seq=1))["ok"]
        for _ in range(10):
            assert not (await one.pen.hand_over("commands", one.pen.signed(text, stranger), seq=1))["ok"]
        # Signed, but as another message of the stream than it came as.
        assert not (await one.pen.hand_over("commands", one.pen.signed(text), seq=2))["ok"]
        assert (await one.pen.hand_over("commands", one.pen.signed(text), seq=1))["ok"]
        answers = await one.finished(6)
    assert [answer["command"] for answer in answers] == [None] * 5 + [fields["id"]]
    assert {answer["problem"]["code"] for answer in answers[:5]} == {"bad_signature", "bad_message"}
    assert len(one.done) == 1


async def test_without_a_key_nothing_is_believed(one: Gateway) -> None:
    one.pen.believed._public_keys = ()
    async with one.alive():
        assert not (await one.pen.send("commands", one.command("status.report")))["ok"]
        assert (await one.finished(1))[0]["problem"]["code"] == "no_key"


async def test_a_long_command_holds_up_neither_the_stream_nor_others(one: Gateway) -> None:
    one.hold.clear()
    async with one.alive():
        slow = one.command("device.test", {"device": "printer-1"})
        assert (await one.pen.send("commands", slow))["ok"]
        await until(lambda: one.done)
        assert one.commands.busy
        assert (await one.pen.send("commands", one.command("journal.verify")))["ok"]
        (answer,) = await one.finished(1)
        assert answer["operation"] == "journal.verify"
        assert "100011 bytes" in answer["result"]["left_out"]
        one.hold.set()
        assert (await one.finished(2))[1]["command"] == slow["id"]
        await until(lambda: not one.commands.busy)


async def test_what_was_cut_off_is_unknown_unless_it_may_be_repeated(one: Gateway) -> None:
    """The process ends while two commands run: the one with an effect is not run again, the other is."""
    one.hold.clear()
    effect, report = one.command("device.test", {"device": "printer-1"}), one.command("status.report")
    async with one.alive():
        await one.pen.send("commands", effect)
        await one.pen.send("commands", report)
        await until(lambda: len(one.done) == 2)
    one.hold.set()
    async with one.alive():
        answers = {answer["command"]: answer for answer in await one.finished(2)}
    assert answers[effect["id"]]["problem"]["code"] == "unknown_outcome"
    assert answers[report["id"]]["ok"]
    assert one.done.count(("device.test", effect["id"])) == 1
    assert one.done.count(("status.report", report["id"])) == 2


async def test_a_command_that_waited_too_long_is_not_begun(one: Gateway) -> None:
    await one.pen.send("commands", one.command("status.report"))
    one.hands.pass_s(2 * 3600)
    async with one.alive():
        assert (await one.finished(1))[0]["problem"]["code"] == "expired"
    assert one.done == []


async def test_expiry_with_a_clock_that_woke_up_in_the_past(one: Gateway) -> None:
    """Years behind and not trusted: the lifetime of an hour counts from receipt, by the boot clock."""
    one.hands.synced = False
    one.hands.wall = BEGAN.replace(year=2019)
    one.hands.boot("boot-2")
    one.commands = one._made()
    first, second, third = (one.command("status.report") for _ in range(3))
    await one.pen.send("commands", first)
    one.hands.pass_s(3590)
    async with one.alive():
        assert (await one.finished(1))[0]["ok"]
    await one.pen.send("commands", second)
    one.hands.pass_s(3610)
    async with one.alive():
        assert (await one.finished(2))[1]["problem"]["code"] == "expired"
    # Received before a reboot, and still no time: nobody can tell how long it lay there.
    await one.pen.send("commands", third)
    one.hands.mono_ms = 1_000
    one.hands.boot("boot-3")
    async with one.alive():
        assert (await one.finished(3))[2]["problem"]["code"] == "expired"
    # And a clock that is ahead, trusted or not, begins nothing that is over.
    one.hands.wall = BEGAN.replace(year=2030)
    async with one.alive():
        assert not (await one.pen.send("commands", one.command("status.report")))["ok"]
        assert (await one.finished(4))[3]["problem"]["code"] == "expired"
    assert len(one.done) == 1


CRASHING = """
import asyncio, os, signal, sys
from pathlib import Path
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.commands import COMMANDS_SCHEMA, Commands
from edge.services.facts import Reporter
from edge.services.from_hq import Believed

async def effect(id_, parameters):
    with open(sys.argv[2], "a") as paper:
        paper.write(id_ + "\\n")
        paper.flush()
        os.fsync(paper.fileno())
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    clock = Clock()
    store = await Store.open(Path(sys.argv[1]), "S1", clock=clock, schemas=[("commands-1", COMMANDS_SCHEMA)])
    commands = Commands(store, clock, Believed((), "S1", ()), Reporter(store, "S1"))
    commands.serve({"device.test": effect})
    await commands.load()
    await commands.run()

asyncio.run(main())
"""


async def test_a_kill_in_mid_effect_never_becomes_a_second_run(tmp_path: Path) -> None:
    file, paper = tmp_path / "store.db", tmp_path / "paper"
    hands = Turnable()
    hands.clock = Clock()  # the other process has the machine's own
    store = await Store.open(file, "S1", clock=hands.clock, schemas=[("commands-1", COMMANDS_SCHEMA)])
    gateway = Gateway(store, hands)
    far = utc(BEGAN.replace(year=BEGAN.year + 50))
    await gateway.pen.send("commands", gateway.command("device.test", {"device": "p"}, expires_at=far))
    await store.close()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHING, str(file), str(paper))
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    store = await Store.open(file, "S1", clock=Clock(), schemas=[("commands-1", COMMANDS_SCHEMA)])
    reborn = Gateway(store, hands)
    async with reborn.alive():
        (answer,) = await reborn.finished(1)
    assert answer["problem"]["code"] == "unknown_outcome"
    assert reborn.done == []
    assert len(paper.read_text().splitlines()) == 1
    await store.close()


async def test_what_became_of_each_command_is_told_to_whoever_listens(one: Gateway) -> None:
    told: list[tuple[str, str, bool]] = []
    async with one.alive():
        one.commands.on_end.append(lambda command, answer: told.append((command.by, command.operation, answer.ok)))
        await one.pen.send("commands", one.command("device.test", {"device": "scanner-1"}))
        await one.pen.send("commands", one.command("device.test", {"device": "gone"}))
        await one.pen.send("commands", one.command("no.such.operation"))
        await one.finished(3)
        async with asyncio.timeout(30):
            while len(told) < 3:
                await asyncio.sleep(0.01)
    assert sorted(told) == [
        ("anna", "device.test", False), ("anna", "device.test", True), ("anna", "no.such.operation", False),
    ]  # fmt: skip
