"""`.venv-peers`: programs from PyPI that we are compared with, apart from what Tillgate itself depends on.

Made on first use from requirements.txt beside this, which pins every package by version and hash; remembered by a copy
of that file inside, so that it is made anew when the pins change. (Pin anew with `uv pip compile` after a change of
requirements.in.)
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from bench.backlog import progress

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
PINS = Path(__file__).with_name("requirements.txt")
BUILDER = "setuptools"
"""Builds what comes as source; itself pinned, so that nothing is fetched that the file does not name."""


class NotInstalled(Exception):
    """The programs to compare with could not be installed; the text has pip's last words."""


async def peers_python() -> Path:
    """The interpreter of `.venv-peers`, which is made if need be. NotInstalled when that fails."""
    stamp, python = FOLDER / "made-from.txt", FOLDER / "bin" / "python"
    if stamp.exists() and stamp.read_text() == PINS.read_text():
        return python
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    progress(f"making {FOLDER} for the programs we are compared with")
    await _run(sys.executable, "-m", "venv", str(FOLDER))
    pins = PINS.read_text()
    builder = FOLDER / "builder.txt"
    builder.write_text(_pin_of(BUILDER, pins))
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--require-hashes"]
    await _run(*install, "--no-deps", "-r", str(builder))
    await _run(*install, "--no-build-isolation", "-r", str(PINS))
    stamp.write_text(pins)
    progress(f"{FOLDER} is ready", last=True)
    return python


def _pin_of(package: str, pins: str) -> str:
    """The lines of one package: its version and the hashes that follow, indented."""
    found: list[str] = []
    for line in pins.splitlines(keepends=True):
        if line.startswith(f"{package}==") or (found and line.startswith(" ")):
            found.append(line)
        elif found:
            break
    return "".join(found)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said: list[str] = []
    async for line in process.stdout:
        text = line.decode(errors="replace").strip()
        said.append(text)
        if text.startswith(("Collecting", "Building", "Installing")):
            progress(text[:100])
    if await process.wait():
        raise NotInstalled("\n".join(["the programs to compare with could not be installed:", *said[-20:]]))
