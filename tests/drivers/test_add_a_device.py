"""drivers/README.md, "Add a device in six steps", followed as it stands in a copy of the tree.

It works, for a scale and for a scanner, and no step can be left out unnoticed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {"DEVICES": "drivers/catalog.py", "TWINS": "drivers/virtual/twins.py"}
TABLES |= {"ORACLES": "tests/fuzz/oracles.py", "ROWS": "tests/drivers/test_scales.py"}
WITHIN_S = 100


@dataclass(frozen=True)
class Step:
    """One step of the README: its code blocks, with the language of each."""

    number: int
    blocks: tuple[tuple[str, str], ...]


def steps_of(readme: str) -> list[Step]:
    """The six steps, and as the seventh what to try then."""
    chapter = readme.split("## Add a device in six steps\n")[1].split("\n## ", maxsplit=1)[0]
    parts = re.split(r"^(?:\*\*(\d)\. |Then try it)", chapter, flags=re.MULTILINE)
    numbered = zip((int(number or 7) for number in parts[1::2]), parts[2::2], strict=True)
    return [Step(number, tuple(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))) for number, text in numbered]


STEPS = steps_of((ROOT / "drivers" / "README.md").read_text(encoding="utf-8"))


def for_a_scanner(step: Step) -> Step:
    """As the README says: read scanner for scale. Only the template's own frame is another one."""
    named = [
        ("drivers/virtual/scales/_template", "drivers/virtual/_template"),
        ("drivers/virtual/scales/acme_100", "drivers/virtual/acme_100"),
        ("drivers.virtual.scales.acme_100", "drivers.virtual.acme_100"),
        ("TemplateScale", "TemplateScanner"),
        ("drivers/scales/", "drivers/scanners/"),
        ("drivers.scales.", "drivers.scanners."),
        ("_scale(", "_scanner("),
        (r"printf '   0.482 kg\r\n'", r"printf '\0024006381333931\003'"),
        (
            '"event": "Weight", "value": "0.482", "unit": "kg", "stable": true, "net": false, "tare": null',
            '"event": "Scan", "text": "4006381333931", "aim": null',
        ),
        ('Row("acme-100", zeroes=True, says=dict.fromkeys(SAYS, "no_answer"))', 'Row("acme-100", aim=None)'),
    ]
    blocks = []
    for language, text in step.blocks:
        for scale, scanner in named:
            text = text.replace(scale, scanner)
        blocks.append((language, text))
    return Step(step.number, tuple(blocks))


def follow(step: Step, tree: Path, tables: dict[str, str]) -> None:
    """Do what a person does with one step: run its commands, put its lines where they belong."""
    for language, text in step.blocks:
        if language == "sh":
            subprocess.run(["sh", "-eu", "-c", text], cwd=tree, check=True)
            continue
        *body, last = text.strip().splitlines()
        table, line = re.fullmatch(r"([A-Z]+): (.*)", last).groups()  # type: ignore[union-attr]
        file = tree / tables[table]
        source = file.read_text(encoding="utf-8")
        opened = re.search(rf"^{table}\b.*[\[{{]\n", source, re.MULTILINE)
        assert opened is not None, f"{file} has no table {table}"
        source = f"{source[: opened.end()]}    {line}\n{source[opened.end() :]}"
        if body and body[0].startswith("from "):
            source = source.replace("\nfrom drivers.", f"\n{body[0]}\nfrom drivers.", 1)
        elif body:
            source = source.replace(f"\n{table}:", "\n" + "\n".join(body) + f"\n\n\n{table}:", 1)
        file.write_text(source, encoding="utf-8")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the steps touch and the tests need."""
    tree = tmp_path_factory.mktemp("tree")
    kept = shutil.ignore_patterns("__pycache__", "golden_paper", Path(__file__).name)
    for folder in ("drivers", "demo", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=kept)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def run(tree: Path, *words: str) -> tuple[int, str]:
    """`./dev test ...` or `./dev fuzz ...` in the tree, with this Python."""
    module = {"test": "pytest", "fuzz": "tests.fuzz"}[words[0]]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module, *words[1:]]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    return done.returncode, done.stdout + done.stderr


def test_there_are_six_steps_and_no_more_places() -> None:
    assert [step.number for step in STEPS] == [1, 2, 3, 4, 5, 6, 7]
    assert [language for language, _ in STEPS[6].blocks] == ["sh"]
    texts = [text for step in STEPS for _, text in step.blocks]
    touched = {table for text in texts for table in re.findall(r"^([A-Z]+): ", text, re.MULTILINE)}
    assert touched == set(TABLES)


@pytest.mark.parametrize("category", ["scale", "scanner"])
def test_a_device_nobody_has_is_added(category: str, copied: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(copied, tree)
    tables, steps = dict(TABLES), STEPS
    if category == "scanner":
        tables["ROWS"] = "tests/drivers/test_scanners.py"
        steps = [for_a_scanner(step) for step in STEPS if step.number != 5]
    *steps, then = steps
    for step in steps:
        follow(step, tree, tables)
    test, fuzz = (shlex.split(line)[1:] for line in then.blocks[0][1].splitlines() if line.startswith("./dev"))
    code, said = run(tree, *test, "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")
    assert code == 0, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None, said
    assert int(passed[1]) > 40, "the shared tests, for one kind more"
    fuzz[fuzz.index("--seconds") + 1] = "2"
    code, said = run(tree, *fuzz)
    assert code == 0, said
    assert "acme-100" in said


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_a_step_that_is_left_out_is_named(number: int, copied: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(copied, tree)
    for step in STEPS[:6]:
        if step.number != number:
            follow(step, tree, TABLES)
    code, said = run(tree, "test", "tests/drivers/test_six_steps.py", "-p", "no:cacheprovider")
    assert code == 1, said
    assert f"step {number}: " in said
    assert [other for other in range(2, 7) if f"step {other}: " in said] == [number]
