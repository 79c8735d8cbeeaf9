"""Every `tillgate ...` that a page shows is a command that exists, with the arguments that it takes."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli import parser_of_all

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
PARSER = parser_of_all()
INLINE = re.compile(r"`(?:\.venv/bin/)?(tillgate [^`]+)`")


def in_blocks(text: str) -> Iterator[list[str]]:
    """What stands in shell blocks, to be pasted: all of its arguments are there."""
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("tillgate ", ".venv/bin/tillgate ")) and "$" not in line and "..." not in line:
                yield shlex.split(line.partition(" > ")[0], comments=True)[1:]


def in_sentences(text: str) -> Iterator[list[str]]:
    """What is named in a sentence: `a b|c` is two commands, and what comes behind `...` is left open."""
    for code in INLINE.findall(text):
        words = shlex.split(code.partition("...")[0])[1:]
        if words[1:2] != ["v1"]:  # the first line of what is signed: no command
            yield from map(list, itertools.product(*(word.split("|") for word in words)))


def fault(words: list[str], *, whole: bool) -> str | None:
    """What is wrong with it; that arguments are missing only where it is to be pasted as a whole."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            PARSER.parse_args(words)
    except SystemExit as end:
        missing = "are required" in said.getvalue() or "expected one argument" in said.getvalue()
        if end.code and (whole or not missing):
            return f"tillgate {shlex.join(words)}: {said.getvalue().splitlines()[-1]}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    faults = [fault(words, whole=True) for words in in_blocks(text)]
    faults += [fault(words, whole=False) for words in in_sentences(BLOCK.sub("", text))]
    assert [one for one in faults if one] == []


def test_what_is_wrong_is_found() -> None:
    assert fault(["lanes", "revok", "3"], whole=True) is not None
    assert fault(["lanes", "revoke"], whole=True) is not None
    assert fault(["lanes", "revoke"], whole=False) is None
    assert fault(["lanes", "revoke", "3", "--now"], whole=False) is not None
