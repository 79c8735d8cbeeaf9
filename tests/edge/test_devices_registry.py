"""One broken device never disturbs another, and every status says what is known and what a person should do."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from drivers.events import PrinterError, PrinterStatus, ScaleFault, ScaleStatus, Scan
from drivers.printers import printer_driver
from drivers.scales import scale_driver
from edge.bus.messages.replies import Code
from edge.commands.listing import where
from edge.config import Device
from edge.devices.advice import please
from tests.edge.devices_rig import Counter, until

EAN = "4006381333931"
SALE = {"operator_id": "ann", "receipt_number": "1"}


async def others_work(counter: Counter) -> None:
    """Scale, printer and drawer do their work whatever the scanner does."""
    await counter.scale.do("load", {"kg": "0.482"})
    assert (await counter.ask("scale.weigh"))["value"] == "0.482"
    assert (await counter.ask("drawer.open", SALE))["opened"] is True
    await counter.printer.do("drawer", {"to": "closed"})
    await until(lambda: counter.state("drawer-1")["detail"] == {"open": False}, "the drawer's closing")
    for device in ("scale-1", "printer-1", "drawer-1"):
        assert counter.state(device)["state"] == "ready", device


async def test_a_driver_that_meets_a_bug_stays_faulted_and_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(device: object, scan: Scan) -> None:
        raise ZeroDivisionError("a bug of ours")

    async with Counter(tmp_path) as counter:
        counter.registry.subscribe(Scan, buggy)
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        for _ in range(3):
            counter.scanner.scan(EAN)
            await until(lambda: counter.state("scanner-1")["state"] == "faulted", "the fault")
            await until(lambda: not device.is_open, "the driver's end")
            await until(lambda: device.is_open, "the driver's next life")
        assert [status["state"] for status in counter.statuses("scanner-1")][-1] == "faulted", "no good news in between"
        assert "Tell a technician" in counter.state("scanner-1")["please"]
        await others_work(counter)
        assert "ZeroDivisionError: a bug of ours" in caplog.text
        assert "was never retrieved" not in caplog.text


async def test_a_wrong_device_disturbs_nobody(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.stop()
        await counter.scanner.do("cable", {"to": "pull"})
        Path(counter.scanner.wire.address).write_text("no serial line")
        await counter.start()
        await until(lambda: counter.registry.all("scanner")[0].state == "faulted", "the fault")
        assert "Correct the configuration of scanner-1" in counter.state("scanner-1")["please"]
        ready = ("scale", "printer")
        await until(lambda: {counter.registry.all(kind)[0].state for kind in ready} == {"ready"}, "scale and printer")
        await others_work(counter)
        Path(counter.scanner.wire.address).unlink()


async def test_a_loose_cable_fills_neither_journal_nor_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for _ in range(20):
            await counter.scanner.do("cable", {"to": "pull"})
            await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
            await counter.scanner.do("cable", {"to": "plug"})
            await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")
        await others_work(counter)
        await counter.store.write([])
        facts = [fact for fact in await counter.facts("tillgate.device.changed.v1") if fact["device"] == "scanner-1"]
        assert [fact["state"] for fact in facts[:3]] == ["ready", "offline", "ready"], "the first ones are told at once"
        assert len(facts) == 6
        lines = [record for record in caplog.records if "scanner-1" in record.getMessage()]
        assert len(lines) < 20, [record.getMessage() for record in lines]


async def test_what_was_gathered_is_recorded_when_its_time_comes(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        counter.registry._changes_within_s = 0.5
        await counter.ready()
        for _ in range(10):
            await counter.scanner.do("cable", {"to": "pull"})
            await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
            await counter.scanner.do("cable", {"to": "plug"})
            await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")
        changed = "tillgate.device.changed.v1"

        async def counted() -> list[dict]:
            return [fact for fact in await counter.facts(changed) if fact["device"] == "scanner-1"]

        await until(lambda: not counter.registry._gathering, "the end of gathering")
        await counter.store.write([])
        facts = await counted()
        assert sum(fact["changes"] for fact in facts) == 21, "none is lost: ready, then ten times offline and ready"
        assert facts[-1]["state"] == "ready"


async def test_an_unplugged_scale_is_never_there(tmp_path: Path) -> None:
    """Neither when its adapter goes nor when the adapter stays and the scale behind it is gone."""
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scale.do("silence", {"on": True})
        silent = await counter.problem("scale.weigh", deadline_s=2.0)
        assert silent.detail.startswith("no_answer: scale-1 at "), "a till is told of the device, not of its path alone"
        assert counter.state("scale-1")["state"] == "offline"
        assert "Switch scale-1 on" in counter.state("scale-1")["please"]
        await counter.scale.do("silence", {"on": False})
        await counter.scale.do("load", {"kg": "0.482"})
        assert (await counter.ask("scale.weigh"))["value"] == "0.482"
        assert counter.state("scale-1")["state"] == "ready"

        await counter.scale.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scale-1")["state"] == "offline", "the loss")
        assert (await counter.problem("scale.weigh")).code is Code.DEVICE_LOST
        assert (await counter.ask("drawer.open", SALE))["opened"] is True, "the drawer opens though the scale is gone"
        told = counter.statuses("scale-1")
        await counter.scale.do("silence", {"on": True})
        await counter.scale.do("cable", {"to": "plug"})  # the adapter is back, the scale says nothing
        await until(lambda: len(counter.statuses("scale-1")) > len(told) + 1, "the port's opening and the silence")
        states = [status["state"] for status in counter.statuses("scale-1")[len(told) :]]
        assert states == ["unknown", "offline"]


async def test_a_scale_that_must_not_be_probed_is_unknown_until_it_speaks(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="adam-azextra") as counter:
        await until(lambda: counter.registry.all("scale")[0].is_open, "the scale's line")
        await until(lambda: counter.state("printer-1")["state"] == "ready", "the printer, asked at the same time")
        assert counter.state("scale-1")["state"] == "unknown"
        await counter.scale.do("load", {"kg": "0.482"})
        assert (await counter.ask("scale.weigh"))["value"] == "0.482"
        assert counter.state("scale-1")["state"] == "ready"


async def test_what_a_carrier_s_cable_does_its_devices_say(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("drawer-1")["state"] == "offline", "the drawer's absence")
        assert counter.state("drawer-1")["detail"] == {"open": None}
        assert "printer-1" in counter.state("drawer-1")["please"], "it is that cable which a person must look at"
        await counter.printer.do("cable", {"to": "plug"})
        await until(lambda: counter.state("drawer-1")["state"] == "ready", "the drawer's return")


def test_a_technician_reads_what_a_usb_device_is() -> None:
    usb = {"vendor": "0c2e", "product": "0b61", "serial": "18103B0AD5"}
    device = Device(id="s", protocol="serial-scanner", lanes=("1",), transport={"kind": "serial", "usb": usb})
    assert where(device) == "USB 0c2e:0b61 serial 18103B0AD5"


def reasons() -> set[str]:
    """Every reason that a driver can give, from where they are given."""
    printer = {
        PrinterStatus(online=None, cover_open=None, paper="unknown", error=error, raw=b"").reason
        for error in typing.get_args(PrinterError)
    }
    scale = {
        ScaleStatus(b"", motion=True).reason,
        ScaleStatus(b"", over=True).reason,
        ScaleStatus(b"", under_zero=True).reason,
        *(ScaleStatus(b"", fault=fault).reason for fault in typing.get_args(ScaleFault)),
    }
    tables = {*printer_driver._ADVICE, *scale_driver.ADVICE, "lost", "garbled"}
    return {reason for reason in printer | scale | tables if reason is not None}


def test_there_is_advice_for_every_reason() -> None:
    lost = please("X", "lost")
    assert len(reasons()) > 20
    assert not [reason for reason in reasons() - {"lost"} if please("X", reason) in ("", lost)]


@pytest.mark.parametrize("fault", typing.get_args(ScaleFault))
async def test_a_scale_s_fault_is_a_state_only_where_a_person_must_help(tmp_path: Path, fault: str) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        scale = counter.registry.all("scale")[0]
        counter.registry.answers(scale, fault)
        passing = ("busy", "no_weight", "below_minimum", "not_moved", "refused")
        stuck = fault not in passing
        assert counter.state("scale-1")["state"] == ("not_ready" if stuck else "ready")
        assert counter.state("scale-1")["detail"] == ({"reason": fault} if stuck else {})
        assert bool(counter.state("scale-1")["please"]) == stuck
        counter.registry.answers(scale)
        assert counter.state("scale-1")["state"] == "ready"
