"""Every kind of the catalogue has gone the six steps of drivers/README.md; one that has not is told which is left."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivers
from drivers.catalog import DEVICES
from drivers.virtual.twins import TWINS
from tests.fuzz.oracles import ORACLES

HERE = Path(__file__).parent
SHARED = ("base", "_template")
OWN_LINE = [name for name, kind in DEVICES.items() if kind.build is not None]


def protocols() -> Iterator[tuple[str, str]]:
    """The modules of device protocols, and the options that each defines."""
    for category in ("scanners", "scales", "printers", "displays", "drawers"):
        folder = Path(drivers.__file__).parent / category
        for found in pkgutil.iter_modules([str(folder)]):
            if found.name not in SHARED:
                module = importlib.import_module(f"drivers.{category}.{found.name}")
                for name, value in vars(module).items():
                    if name.endswith("Options") and getattr(value, "__module__", "") == module.__name__:
                        yield f"drivers/{category}/{found.name}.py", name


def missing(kind: str) -> list[str]:
    """The steps that a kind has not gone."""
    from tests.drivers import (
        test_scales,
        test_scanners,
    )  # only now: a row of a kind that is not in the catalogue fails there

    category, found = DEVICES[kind].category, []
    if category != "display" and not any((HERE.parent / "captures" / kind).glob("*/bytes.rx")):
        found.append(f"step 3: there is no capture of {kind}; make a folder tests/captures/{kind}/MODEL")
    if kind not in TWINS:
        found.append(f"step 4: {kind} has no virtual twin; write one, and its line in drivers/virtual/twins.py")
    if category == "scale" and kind not in ORACLES:
        found.append(f"step 5: nobody has read {kind} a second time; add that reading to tests/fuzz/oracles.py")
    rows = {row.kind for row in (*test_scales.ROWS, *test_scanners.ROWS)}
    others = (path for path in HERE.glob("test_*.py") if path.name not in ("test_six_steps.py", "test_captures.py"))
    if kind not in rows and not any(f'"{kind}"' in path.read_text(encoding="utf-8") for path in others):
        where = f"a row to tests/drivers/test_{category}s.py" if category in ("scale", "scanner") else "a test file"
        found.append(f"step 6: {kind} is not tested against its twin; add {where}")
    return found


@pytest.mark.parametrize("kind", OWN_LINE)
def test_all_steps_are_gone(kind: str) -> None:
    assert missing(kind) == []


def test_every_protocol_is_in_the_catalogue() -> None:
    used = {kind.options.__name__ for kind in DEVICES.values()}
    left_out = [f"step 2: {name} of {file} is in no line of drivers/catalog.py" for file, name in protocols()]
    assert [said for said in left_out if said.split()[2] not in used] == []


def test_twins_and_readings_are_of_kinds_that_there_are() -> None:
    assert set(TWINS) <= set(DEVICES), "step 2: a twin of a kind that is not in drivers/catalog.py"
    assert set(ORACLES) <= set(DEVICES), "step 2: a second reading of a kind that is not in drivers/catalog.py"
