"""Commands, notices, a group's prices the whole way: HQ's command line, a real broker, the real edge, HQ's database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from bench.gateway import Gateway, gateway, lanes_toml
from cloud_bridge.hq import commands, keys
from cloud_bridge.hq.schema import commands_sent, open_engine
from edge.bus import topics
from edge.bus.client import Client, Message
from tests.cloud_bridge.rig import Mosquitto, a_bridge, a_receiver, until
from tests.cloud_bridge.test_hq_commands import LIST, run


class HQ:
    """HQ's command line on one database, key and broker."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.public = keys.make(folder / "hq.key")
        self.url = f"sqlite:///{folder / 'hq.db'}"
        self.way = ["--url", self.url, "--broker", f"127.0.0.1:{port}", "--key", str(folder / "hq.key")]

    async def run(self, *arguments: str) -> None:
        assert await asyncio.to_thread(run, "hq", *arguments) == 0

    async def command(self, *arguments: str, to: str = "BENCH") -> None:
        flag = "--group" if to == "north" else "--store"
        await self.run("command", "send", flag, to, *self.way, *arguments)


@contextlib.asynccontextmanager
async def store_of(hq: HQ, port: int) -> AsyncIterator[Gateway]:
    cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {port}\nprofile = "mosquitto"\ngroups = ["north"]\n'
    async with gateway(f'{lanes_toml(1)}{cloud}price_key = "{hq.public}"\n') as at:
        yield at


def answers(engine: Engine, store: str = "BENCH") -> dict[str, commands.Answer]:
    """By operation."""
    found: dict[str, commands.Answer] = {}
    for view in commands.look(engine, store=store):
        for answer in view.answers:
            found.setdefault(view.operation, answer)
    return found


async def test_a_store_is_commanded_and_answers(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hq = HQ(tmp_path, cloud.port)
    async with store_of(hq, cloud.port) as at:
        await hq.command("--expires-after", "1d", "journal.verify")  # before the store was ever connected
        await hq.command("--expires-after", "1d", "device.test", "--device", "nothing")
        with hq_file.begin() as db:  # one that has expired meanwhile, in the middle of the others
            expired = db.execute(
                update(commands_sent)
                .where(commands_sent.c.operation == "device.test")
                .values(expires_at="2020-01-01T00:00:00.000Z", operation="device.gone")
            )
            assert expired.rowcount == 1
        await hq.command("device.test", "--device", "nothing", to="north")
        async with a_receiver(hq_file, cloud.port), a_bridge(at.config):
            await until(lambda: answers(hq_file).get("journal.verify", commands.Answer).state == "done")
            await hq.command("status.report")
            await until(lambda: answers(hq_file).get("status.report", commands.Answer).state == "done")
            await until(lambda: answers(hq_file).get("device.test", commands.Answer).state == "failed")
    found = answers(hq_file)
    assert found["device.gone"].state == "expired"
    assert found["device.gone"].received_at is None, "HQ does not send what has expired"
    told = {operation: answer.answer or {} for operation, answer in found.items()}
    assert told["journal.verify"]["result"]["ok"] is True
    assert told["status.report"]["result"]["gateway"]["state"] == "serving"
    assert told["device.test"]["problem"]["code"] == "not_found"
    capsys.readouterr()
    assert run("hq", "command", "list", "--url", hq.url) == 0
    table = capsys.readouterr().out
    assert "group north" in table
    assert "not_found: there is no device 'nothing'" in table
    assert "status.report" in table
    assert run("hq", "command", "list", "--url", hq.url, "--store", "BENCH", "--json") == 0
    (first, *_) = json.loads(capsys.readouterr().out)
    assert (first["operation"], first["answers"][0]["state"]) == ("status.report", "done")
    assert run("hq", "command", "show", first["id"], "--url", hq.url) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["answer"]["result"]["gateway"]["version"]


async def test_a_notice_and_a_groups_prices_reach_the_tills(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hq = HQ(tmp_path, cloud.port)
    (tmp_path / "list.csv").write_text(LIST)
    shown: dict[str, Any] = {}

    def heard(message: Message) -> None:
        shown[topics.last_level(message.topic)] = json.loads(message.payload)
        message.ack()

    def texts() -> list[str]:
        return [one["text"] for one in shown.get("notices", {"notices": []})["notices"]]

    async with store_of(hq, cloud.port) as at:
        till = Client(at.address, client_id="till", username="1", clean_start=True)
        till.on_message(topics.STORE_ANY, heard)
        notice = ["notice", "publish", "--group", "north", *hq.way, "--id", "n1"]
        await hq.run(*notice, "--text", "Closed on Monday.", "--for", "2d")  # while the store is away
        async with till, a_receiver(hq_file, cloud.port), a_bridge(at.config):
            await until(lambda: texts() == ["Closed on Monday."])
            price = ["--version", "g1", "--currency", "EUR", *hq.way]
            await hq.run("prices", "publish", str(tmp_path / "list.csv"), "--group", "north", *price)
            await until(lambda: shown.get("prices", {}).get("version") == "g1")
            await hq.run(*notice, "--text", "Closed on Tuesday.", "--until", "2099-01-01T00:00:00+01:00")
            await until(lambda: texts() == ["Closed on Tuesday."])
            capsys.readouterr()
            await hq.run("notice", "list", "--url", hq.url)
            assert "2098-12-31T23:00:00.000Z  group north  info   n1  Closed on Tuesday." in capsys.readouterr().out
            await hq.run("notice", "withdraw", "n1", *hq.way)
            await until(lambda: texts() == [])
    assert run("hq", "notice", "withdraw", "n1", *hq.way) == 2


async def test_what_a_stranger_puts_on_the_broker_is_shown_to_hq_and_not_run(
    hq_file: Engine, cloud: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hq = HQ(tmp_path, cloud.port)
    stranger = HQ(_folder(tmp_path / "stranger"), cloud.port)
    async with store_of(hq, cloud.port) as at, a_receiver(hq_file, cloud.port), a_bridge(at.config):
        await hq.command("status.report")
        await until(lambda: answers(hq_file).get("status.report", commands.Answer).state == "done")
        # Its own log begins at 1 in a later epoch, as a new stream of HQ's would.
        await stranger.command("status.report")
        await until(lambda: commands.strangers(hq_file))
        await hq.command("journal.verify")  # and HQ is heard all the same
        await until(lambda: answers(hq_file).get("journal.verify", commands.Answer).state == "done")
    assert len(commands.look(hq_file)) == 2
    capsys.readouterr()
    assert run("hq", "command", "list", "--url", hq.url) == 0
    assert "store BENCH refused" in capsys.readouterr().out


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["command", "send", "--key", "K", "status.report"], "for whom?"),
        (["command", "send", "--store", "a/b", "--key", "K", "status.report"], "cannot stand in a topic"),
        (["command", "send", "--store", "s", "--key", "K", "device.test", "--device", "a b"], "device.test: device"),
        (["notice", "publish", "--store", "s", "--key", "K", "--text", " "], "--text is empty"),
        (["notice", "publish", "--store", "s", "--key", "K", "--text", "x" * 1001], "at most 1000"),
        (["notice", "withdraw", "nothing", "--key", "K"], "there is no notice 'nothing'"),
        (["command", "show", "nothing"], "there is no command 'nothing'"),
    ],
)
def test_what_cannot_be_sent_is_said(
    tmp_path: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.make(tmp_path / "hq.key")
    given = [str(tmp_path / "hq.key") if one == "K" else one for one in arguments]
    where = ["--url", f"sqlite:///{tmp_path / 'hq.db'}"]
    open_engine(where[1]).dispose()
    at = given.index("status.report") if "status.report" in given else len(given)
    if "device.test" in given:
        at = given.index("device.test")
    assert run("hq", *given[:at], *where, *given[at:]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "5", "5y", "-1h", "0s", "400d", "1.5h"])
def test_a_lifetime_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("hq", "command", "send", "--store", "s", "--key", "k", f"--expires-after={text}", "status.report")
    assert "90s, 15m, 8h or 7d" in capsys.readouterr().err
