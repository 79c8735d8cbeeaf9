"""docs/devices.md, the technician's page: every block is a configuration that is right, and nothing is left out."""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from drivers.catalog import DEVICES
from drivers.printers.profiles import PROFILES
from drivers.virtual.by_hand import ACTIONS
from edge.bus.messages.statuses import DeviceState
from edge.commands.devices import add_commands
from edge.config import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
STORE = 'state_dir = "state"\n[store]\nid = "S1"\n' + "".join(f'[[lanes]]\nid = "{lane}"\n' for lane in "123")
DEFINED = {device["id"]: block for block in BLOCKS for device in tomllib.loads(block)["devices"]}


def leant_on(block: str) -> set[str]:
    """The blocks of the devices that those of `block` hang on, or that stand in for them."""
    names: set[str] = set()
    for device in tomllib.loads(block)["devices"]:
        options: dict[str, Any] = device.get("options", {})
        names |= {name for name in (options.get("printer"), options.get("scanner"), device.get("failover")) if name}
    return {DEFINED[name] for name in names} - {block}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: tomllib.loads(block)["devices"][0]["id"])
def test_every_block_can_be_pasted(block: str, tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text(STORE + block + "".join(leant_on(block)), encoding="utf-8")
    assert load(file).devices


def test_all_together_are_a_store(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text(STORE + "".join(BLOCKS), encoding="utf-8")
    shown = {device.protocol for device in load(file).devices}
    left_out = sorted(set(DEVICES) - shown)
    assert not left_out, f"step 2: docs/devices.md has no block of {', '.join(left_out)}"


def test_no_state_command_model_or_action_is_left_out() -> None:
    assert [state for state in get_args(DeviceState) if f"\n| `{state}` |" not in PAGE] == []
    assert [model for model in PROFILES if f"`{model}`" not in PAGE] == []
    assert [example for example, what in ACTIONS.values() if f"| `{example}` | {what} |" not in PAGE] == []
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), lambda _: None)
    usage = parser._subparsers._group_actions[0].choices["devices"]  # type: ignore[union-attr, index, call-overload]
    commands = usage._subparsers._group_actions[0].choices
    table = PAGE.split("| `tillgate devices ...` |")[1].split("\n\n")[0]
    assert [command for command in commands if f"`{command}" not in table] == []


def test_every_kind_stands_in_the_table_of_the_drivers() -> None:
    readme = (ROOT / "drivers" / "README.md").read_text(encoding="utf-8")
    for kind, entry in DEVICES.items():
        row = re.search(rf"^\|.*`{kind}`.*\| {entry.category} \| (.*?) \|", readme, re.MULTILINE)
        assert row is not None, f"step 2: drivers/README.md has no row of {kind}"
        where = ", ".join(f"`{name}`" for name in entry.transports) or f"through its {entry.through}"
        assert row[1] == where, kind
