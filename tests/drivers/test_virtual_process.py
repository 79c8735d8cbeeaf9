"""The virtual devices as a process of their own, driven over the control socket."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.events import Scan
from drivers.virtual.control import Control
from drivers.virtual.twin import BadRequest
from tests.drivers.rig import PATIENCE_S, Heard, running

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def virtual_devices(directory: Path, *specs: str) -> AsyncIterator[tuple[dict[str, str], Control]]:
    control = directory / "control"
    command = (sys.executable, "-m", "drivers.virtual", "--state", str(directory), "--control", str(control))
    process = await asyncio.create_subprocess_exec(*command, *specs, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            ready = json.loads(await process.stdout.readline())
        assert ready["ready"]
        async with Control(control) as client:
            yield ready["devices"], client
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    assert not control.exists()


async def test_one_process_hosts_many_devices(tmp_path: Path) -> None:
    specs = (
        "serial-scanner:scanner-1:suffix=crlf",
        "toledo-8217:scale-1",
        "keyboard-scanner:keyboard-1",
        "escpos-printer:printer-1:tcp:0",
    )
    async with virtual_devices(tmp_path, *specs) as (addresses, control):
        assert addresses["scanner-1"] == str(tmp_path / "ttyscanner-1")
        assert addresses["keyboard-1"] == str(tmp_path / "keyboard-1.events")
        heard = Heard()
        line = build_transport(read_transport("serial-scanner", "serial", {"path": addresses["scanner-1"]}))
        options = read_device("serial-scanner", {"suffix": "crlf"})
        async with running(lambda opened: build_driver("serial-scanner", options, line, heard, opened)):
            await control.do("scanner-1", "scan", text="4006381333931", aim="E0")
            assert [(scan.text, scan.aim) for scan in await heard.of(Scan)] == [("4006381333931", "E0")]
        devices = await control.devices()
        assert {name: state["kind"] for name, state in devices.items()} == {
            "scanner-1": "scanner",
            "scale-1": "scale",
            "keyboard-1": "keyboard",
            "printer-1": "printer",
        }
        host, port = addresses["printer-1"].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"Hello\n\x1dV\x00\x1b\x70\x00\x19\x19\x10\x04\x01")
        assert await reader.read(1) == b"\x12"
        writer.close()
        state = await wait_for_receipt(control)
        assert (state["last_receipt"], state["drawer_open"], state["kicks"]) == ("Hello", True, 1)
        picture = await control.do("printer-1", "picture")
        assert Path(picture["path"]).read_bytes().startswith(b"\x89PNG")
        await control.do("scale-1", "load", kg="0.482", settle_ms=0)
        with pytest.raises(BadRequest, match="weighs in kg"):
            await control.do("scale-1", "load", lb="1")
        with pytest.raises(BadRequest, match="device is unknown; there are scanner-1"):
            await control.do("scanner-9", "scan", text="1")
        with pytest.raises(BadRequest, match="to is 'ajar'; expected one of open, closed"):
            await control.do("printer-1", "cover", to="ajar")
    assert not (tmp_path / "ttyscanner-1").is_symlink()


async def wait_for_receipt(control: Control) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await control.do("printer-1", "state")
            if state["receipts"]:
                return state
            await asyncio.sleep(0.01)


async def test_rubbish_on_the_control_socket_is_answered(tmp_path: Path) -> None:
    async with virtual_devices(tmp_path, "serial-scanner:scanner-1") as (_, control):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        for line, message in ((b"{", "not JSON"), (b"[1]", "not an object"), (b'{"do": 1}', "unknown")):
            writer.write(line + b"\n")
            answer = json.loads(await reader.readline())
            assert not answer["ok"]
            assert message in answer["error"]
        writer.close()
        assert (await control.do("scanner-1", "state"))["scans"] == 0


@pytest.mark.parametrize(
    "spec",
    [
        "laser:x",
        "serial-scanner:",
        "keyboard-scanner:x:tcp:1",
        "escpos-printer:x:colour=red",
        "serial-scanner:x:suffix=q",
    ],
)
async def test_a_wrong_device_is_refused_with_what_is_right(tmp_path: Path, spec: str) -> None:
    command = (sys.executable, "-m", "drivers.virtual", "--state", str(tmp_path), "--control", str(tmp_path / "c"))
    process = await asyncio.create_subprocess_exec(*command, spec, stderr=asyncio.subprocess.PIPE, cwd=ROOT)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"error:" in errors
