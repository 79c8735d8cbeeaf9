"""Rules of the house that no linter knows: where topics are spelt, what the lock file holds, how files are named."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "drivers", "cloud_bridge", "demo", "bench")


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every string of a module but its docstrings and other strings that stand alone."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_only_topics_py_spells_a_topic() -> None:
    spelt = [
        f"{path.relative_to(ROOT)}:{text.lineno}"
        for path in sources()
        if path != ROOT / "edge/bus/topics.py"
        for text in texts(ast.parse(path.read_text("utf-8")))
        if "tg/v1" in str(text.value)
    ]
    assert not spelt, "take the topic from a function of edge/bus/topics.py"


def test_no_file_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
    nameless = [str(path.relative_to(ROOT)) for path in sources() if empty & {path.stem, path.parent.name}]
    assert not nameless, "name it after what it knows"


def test_every_dependency_is_locked_with_hashes_and_no_place_to_fetch_it_from() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in lock
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(.+(?:\n    --hash=.+)*)", lock, re.MULTILINE))
    assert not [name for name, rest in pinned.items() if "--hash=sha256:" not in rest]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = list(project["project"]["dependencies"]) + list(project["dependency-groups"]["dev"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    names = {canonical(match[0]) for line in wanted if (match := re.match(r"[A-Za-z0-9_.-]+", line))}
    assert names <= {canonical(name) for name in pinned}, "run ./dev lock"


def test_what_is_measured_beside_us_is_pinned_with_hashes_too() -> None:
    pins = (ROOT / "bench/peers/requirements.txt").read_text("utf-8")
    assert "://" not in pins
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(.+(?:\n    --hash=.+)*)", pins, re.MULTILINE))
    assert "thingsboard-gateway" in pinned
    assert not [name for name, rest in pinned.items() if "--hash=sha256:" not in rest]


@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_the_entry_points_can_be_run(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111


def test_links_between_documents_lead_somewhere() -> None:
    for document in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "drivers/README.md",
    ):
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert "://" in target or (document.parent / target).exists(), (
                f"{document.name} links to {target}, which is not there"
            )
