"""Calibrating a drawer: what its switch means is learnt from the drawer, kept, and in force at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drivers.drawers.calibration import Readings, judge
from edge.bus.messages.replies import Code, ProblemError
from edge.devices.calibrating import Calibrate
from edge.services.requests import Asked
from tests.edge.devices_rig import Counter, until

OPENED = "tillgate.drawer.opened.v1"
SALE = {"operator_id": "ann", "receipt_number": "17"}


async def step(counter: Counter, name: str, **more: Any) -> dict[str, Any]:
    """What the technician's command asks for."""
    service = counter.calibrating.services()["device.calibrate"]
    parameters = service.parameters.model_validate({"device": "drawer-1", "step": name, **more})
    asked = Asked("technician", f"t-{next(counter._ids)}", asyncio.get_running_loop().time() + 15)
    return await service.handler(asked, parameters)


async def calibrated(counter: Counter, **more: Any) -> dict[str, Any]:
    """All steps, with a person who does what the answers say."""
    answer = await step(counter, "begin")
    assert answer["text"] == "Close drawer-1"
    while not answer["done"]:
        await counter.printer.do("drawer", {"to": "closed"})
        said = {"it_opened": False, **more} if "question" in answer else {}
        answer = await step(counter, answer["next"], **said)
    return answer


@pytest.mark.parametrize(
    ("levels", "open_when", "why"),
    [
        ((False, True, False), "high", "tells"),
        ((True, False, True), "low", "tells"),
        ((False, False, False), None, "did not change"),
        ((True, True, True), None, "did not change"),
        ((False, True, True), None, "differently"),
        ((True, False, False), None, "differently"),
        ((None, True, False), None, "did not report"),
        ((False, True, None), None, "did not report"),
    ],
)
def test_three_readings(levels: tuple[bool | None, ...], open_when: str | None, why: str) -> None:
    verdict = judge(Readings(*levels))
    assert verdict.open_when == open_when
    assert why in verdict.why


@pytest.mark.parametrize("truth", ["high", "low"])
@pytest.mark.parametrize("model", ["TM-T88V", "generic-80"])
async def test_what_is_learnt_is_in_force_at_once_and_after_a_restart(tmp_path: Path, truth: str, model: str) -> None:
    async with Counter(tmp_path, model=model, open_when=None, printer={"drawer_open": truth}) as counter:
        await counter.ready()
        assert counter.state("drawer-1")["state"] == "unknown"
        answer = await calibrated(counter)
        assert (answer["open_when"], answer["saved"], answer["complaint"]) == (truth, True, "")
        (fact,) = await counter.facts(OPENED)
        assert (fact["reason"], fact["operator_id"], fact["outcome"]) == ("calibration", "technician", "unknown")
        await until(lambda: counter.state("drawer-1")["detail"] == {"open": False}, "a known state")
        assert (await counter.ask("drawer.open", SALE))["opened"] is True
        await counter.stop()
        await counter.start()
        await until(lambda: counter.state("drawer-1")["detail"].get("open") is True, "a known state after a restart")
        assert len(await counter.facts(OPENED)) == 2


async def test_a_configuration_that_says_the_opposite_is_a_complaint(tmp_path: Path) -> None:
    async with Counter(tmp_path, open_when="high", printer={"drawer_open": "low"}) as counter:
        await counter.ready()
        await until(lambda: counter.state("drawer-1")["detail"] == {"open": True}, "the wrong belief")
        answer = await calibrated(counter)
        assert (answer["open_when"], answer["saved"]) == ("low", True)
        assert "Correct open_when of drawer-1: the configuration says 'high'" in answer["complaint"]
        status = counter.state("drawer-1")
        assert (status["state"], status["please"]) == ("unknown", answer["complaint"])
        await counter.stop()
        await counter.start()
        await counter.ready()
        await until(lambda: counter.state("drawer-1")["please"] == answer["complaint"], "the complaint")
        assert counter.state("drawer-1")["state"] == "unknown"
        await counter.stop()
        counter.open_when = "low"  # the person corrects store.toml
        await counter.start()
        await until(lambda: counter.state("drawer-1")["detail"].get("open") is False, "agreement")
        assert counter.state("drawer-1")["please"] == ""


async def test_a_contact_that_does_not_tell(tmp_path: Path) -> None:
    async with Counter(tmp_path, open_when=None, printer={"drawer_open": "none"}) as counter:
        await counter.ready()
        answer = await calibrated(counter)
        assert (answer["open_when"], answer["saved"]) == (None, False)  # it may have been locked
        answer = await calibrated(counter, it_opened=True)
        assert (answer["open_when"], answer["saved"]) == (None, True)
        assert (await counter.ask("drawer.open", SALE))["opened"] is None


async def test_a_drawer_that_did_not_open_teaches_nothing(tmp_path: Path) -> None:
    async with Counter(tmp_path, open_when=None) as counter:
        await counter.ready()
        assert (await calibrated(counter))["open_when"] == "high"
        counter.printer._connectors = (1,)  # locked
        answer = await calibrated(counter)
        assert (answer["open_when"], answer["saved"]) == (None, False)
        assert "locked" in answer["text"]
        await until(lambda: counter.state("drawer-1")["detail"] == {"open": False}, "what was learnt before")


async def test_steps_out_of_order_and_devices_that_are_not_there(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for parameters, code in (
            ({"step": "judge"}, Code.CONFLICT),
            ({"step": "open", "device": "scale-1"}, Code.NOT_FOUND),
        ):
            with pytest.raises(ProblemError) as problem:
                await step(counter, **({"name": parameters.pop("step")} | parameters))
            assert problem.value.code is code
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("printer-1")["state"] == "offline", "the loss")
        with pytest.raises(ProblemError) as problem:
            await step(counter, "open")
        assert problem.value.code is Code.DEVICE_LOST
        assert counter.drawers._drawers["drawer-1"].calibrated  # what it meant before, it means again


async def test_a_calibration_that_nobody_ends_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.devices.calibrating.FORGOTTEN_AFTER_S", 0.5)
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await until(lambda: counter.state("drawer-1")["detail"] == {"open": False}, "closed")
        await step(counter, "open")
        await until(lambda: counter.state("drawer-1")["detail"] == {"open": True}, "what the contact says, again")


def test_a_step_is_named() -> None:
    with pytest.raises(ValueError, match="'begin', 'open' or 'judge'"):
        Calibrate.model_validate({"device": "drawer-1", "step": "close"})
