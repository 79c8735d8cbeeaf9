"""`tillgate status` asks the running gateway, and says so when nobody answers."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from bench.gateway import Gateway, free_port, gateway, lanes_toml
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.statuses import Backlog, DeviceStatus, GatewayStatus
from edge.status_report import Report
from tests.flows.plain_till import PlainTill


async def status(running: Gateway, *arguments: str, command: str = "status") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", command, "--config", str(running.config.file), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_status_of_a_store_without_hq(running: Gateway, till: PlainTill) -> None:
    assert (await till.fact(till.sale(1)))["ok"]
    async with asyncio.timeout(30):
        while True:  # the status follows the commit within about a second
            code, out, _ = await status(running, "--json")
            found = json.loads(out)
            if found["gateway"]["backlog"]["transaction"]["facts"] == 1:
                break
    assert code == 1, "no link to HQ: running, with something wrong"
    assert found["gateway"]["state"] == "serving"
    assert found["gateway"]["link"] == "unknown"
    assert found["gateway"]["safe_to_switch_off"] is False
    assert "never evicted" in found["promises"]["critical"]
    code, text, _ = await status(running)
    assert "transaction" in text
    assert "on disk before accepted" in text


async def test_nobody_answers(running: Gateway) -> None:
    for process in running.processes.values():
        process.terminate()
        await process.wait()
    code, out, err = await status(running)
    assert (code, out) == (2, "")
    assert "is it running" in err


async def test_a_store_whose_cloud_broker_does_not_answer() -> None:
    cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {free_port()}\nprofile = "mosquitto"\n'
    async with gateway(lanes_toml(1) + cloud, bridge=True) as at:
        till = PlainTill(at.address, "1")
        async with till.client:
            await till.client.wait_connected()
            assert (await till.fact(till.sale(1)))["ok"]
            async with asyncio.timeout(60):
                while True:
                    code, out, _ = await status(at, "--json")
                    found = json.loads(out)["gateway"]
                    if found["link"] == "cloud" and found["outages"] and found["backlog"]["transaction"]["facts"]:
                        break
        assert code == 1
        assert "refused" in found["link_detail"]
        assert found["backlog"]["transaction"] | {"oldest_s": 0} == {
            "facts": 1, "oldest_s": 0, "eta_s": None, "head": 1, "confirmed": 0, "evicted": 0, "expired": 0,
        }  # fmt: skip
        assert found["outages"][0]["ended"] is None
        _, text, _ = await status(at)
        assert "the cloud broker's address answers" in " ".join(text.split())
        code, text, _ = await status(at, command="outages")
        assert (code, "goes on" in text) == (0, True)
        code, out, _ = await status(at, "--json", "--last", "1", command="outages")
        assert json.loads(out)["outages"][0]["id"] == found["outages"][0]["id"]


def full_report(confirm: str = "hq", **gateway: object) -> Report:
    """A report in which everything that can be said is said."""
    classes = {
        name: Backlog(
            facts=1234567, oldest_s=90_000, eta_s=7200, head=12345678, confirmed=11111111, evicted=99, expired=7
        )
        for name in FactClass
    }
    outage = Outage(
        id="o", began="2026-05-04T09:02:00.000Z", ended="2026-05-04T19:30:00.000Z", offline_s=37_680, cuts=123,
        causes={"wan": 30_000, "cloud": 7_000, "lan": 680}, kept={FactClass.TRANSACTION: 123456},
        shed={FactClass.TELEMETRY: 99}, drained_in_s=400, exact=False,
    )  # fmt: skip
    status = GatewayStatus(
        state="serving", link="wan", since="2026-05-04T09:30:00.123Z", backlog=classes, eta_s=7200, budget_wait_s=900,
        link_detail="neither the cloud broker nor any probe answers: ask the line's provider (timeout: no answer)",
        epoch="0196a1b2-0000-7000-8000-0000000000aa", clock="holdover", version="0.1.0",
        confirm=confirm,  # type: ignore[arg-type]
        lane_gaps=4, conflicts=3, parked=2, quarantined=5, disk_free_mb=20480, outages=(outage, outage, outage),
        please="Tell a technician: the gateway's disk is full, tills keep their sales themselves, and so on and on",
    )  # fmt: skip
    device = DeviceStatus(
        device="printer-1", category="printer", state="not_ready",
        please="Put paper into printer-1, close its cover, and press its feed button until paper comes out",
    )  # fmt: skip
    return Report(status.model_copy(update=gateway), (device,))


@pytest.mark.parametrize("confirm", ["hq", "broker"])
def test_everything_that_can_be_said_fits_80_columns(confirm: str) -> None:
    text = full_report(confirm).as_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    flat = " ".join(text.split())
    for words in (
        "link wan since", "ask the line's provider", "there in about 2 h", "all but critical facts wait 15 min for",
        "2 facts are parked", "495 facts evicted", "35 facts expired", "3 in conflict",
        "no: 6172835 facts are nowhere but",
        "12345678 11111111 1234567 25 h 2 h", "critical, transaction: on disk before accepted; never evicted",
        "at least 10 h in 123 cuts (wan 8 h, cloud 116 min, lan 11 min) kept 123456, shed 99, drained in 6 min",
        "HQ's database" if confirm == "hq" else "when the cloud broker has it",
    ):  # fmt: skip
        assert words in flat, words


def test_a_store_with_nothing_to_tell_is_short() -> None:
    classes = {name: Backlog(facts=0, oldest_s=None, head=5, confirmed=5) for name in FactClass}
    report = full_report(
        backlog=classes, eta_s=0, budget_wait_s=0, parked=0, outages=(), please="", link="online", link_detail="",
        safe_to_switch_off=True,
    )  # fmt: skip
    text = report.as_text()
    assert "nothing waits; confirmed by HQ's database" in text
    assert "switch off yes" in text
    assert "outages" not in text
