"""The attack table of docs/security.md, made of the tests themselves: a row is a `test_attack_...` and its docstring.

    python -m tests.access.attack_table --write      after adding, removing or rewording one

A docstring says, on both sides of its first ``: ``, what the attacker does and what becomes of it. The attacks of
`ASKED` stand on top by the names people ask for them by; the others follow, by what is attacked.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
BEGIN = "<!-- attacks: python -m tests.access.attack_table --write -->\n"
END = "<!-- end of attacks -->\n"

ASKED: Mapping[str, str] = {
    "no certificate": "test_attacks_bus.py::test_attack_strangers_certificates",
    "another store's certificate": (
        "test_attacks_authority.py::test_attack_with_a_certificate_of_another_store_with_the_same_names"
    ),
    "revoked": "test_attacks_bus.py::test_attack_revoked_certificate",
    "expired": "test_attacks_authority.py::test_attack_with_an_expired_certificate",
    "another lane's topics": "test_attacks_bus.py::test_attack_another_lanes_topics",
    "wildcard subscription": "test_attacks_bus.py::test_attack_wildcard_and_shared_subscriptions",
    "client id takeover": "test_attacks_bus.py::test_attack_client_id_takeover",
    "will message forgery": "test_attacks_bus.py::test_attack_forged_will",
    "flood": "test_attacks_bus.py::test_attack_flood",
    "slow reader": "test_attacks_bus.py::test_attack_slow_reader",
    "retained poison": "test_attacks_bus.py::test_attack_retained_poison",
    "10 MB payload": "test_attacks_bus.py::test_attack_payload_of_10_megabytes",
    "replayed enrolment code": "test_attacks_enrolment.py::test_attack_replayed_enrolment_code",
    "code guessed": "test_attacks_enrolment.py::test_attack_code_guessed",
    "man in the middle at enrolment": "test_attacks_enrolment.py::test_attack_man_in_the_middle_at_enrolment",
    "rogue mDNS": "test_strangers.py::test_attack_rogue_mdns_gains_nothing_from_a_till",
    "downgrade to plain": "test_attacks_bus.py::test_attack_downgrade_to_plain",
    "forged price version": "test_attacks_cloud.py::test_attack_forged_price_version",
    "replayed command": "test_attacks_cloud.py::test_attack_replayed_command",
    "tampered journal row": "test_attacks_at_rest.py::test_attack_tampered_journal_row",
    "copied SD card": "test_attacks_at_rest.py::test_attack_copied_sd_card",
}

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "The bus, and certificates": ("attacks_bus", "gate", "attacks_authority", "stolen_gateway"),
    "Enrolment and discovery": ("attacks_enrolment", "strangers", "till_identity"),
    "What lies on the disk": ("attacks_at_rest", "sealed_store", "sealed_ledger", "snapshot"),
    "Customers, card numbers": (
        "personal_parts", "privacy_erasing", "hq_privacy", "card_numbers_doors", "card_numbers_beyond",
    ),
    "The way to HQ": (
        "attacks_cloud", "attacks_confirming", "attacks_configuration", "cloud_tls", "cloud_renewal",
        "attacks_at_the_cloud_broker",
    ),
    "People and audit": ("attacks_people", "people", "at_box", "rights_command", "passkeys", "audit", "audit_command"),
    "Rubbish, at every door": ("attacks_live", "attacks_malformed"),
}  # fmt: skip
"""Heading -> test modules, without ``test_``, whose attacks stand there; a module that is in none stands at the end."""
FURTHER = "Further"

_SKIPS = re.compile(r"\bpytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")


@dataclass(frozen=True, slots=True)
class Attack:
    """One test. `skipped`: something in or around it may keep it from being run."""

    file: str
    name: str
    says: str
    skipped: bool

    @property
    def key(self) -> str:
        return f"{Path(self.file).name}::{self.name}"

    @property
    def cells(self) -> tuple[str, str, str]:
        """What the attacker does, what becomes of it, where that is tested. ValueError for a docstring without both."""
        does, colon, becomes = self.says.partition(": ")
        if not colon or "|" in self.says or not becomes.endswith("."):
            raise ValueError(f"{self.file}::{self.name}: its docstring is not 'what the attacker does: what becomes.'")
        return does, becomes, f"[`{self.key}`](../{self.file})"


def attacks() -> list[Attack]:
    """Every attack there is in tests/, in the order of files and lines."""
    return [one for file in sorted((ROOT / "tests").rglob("test_*.py")) for one in _in(file)]


def _in(file: Path) -> Iterator[Attack]:
    module = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [one for one in functions if one.name.startswith("test_")]
    around = any(_SKIPS.search(ast.unparse(node)) for node in module.body if node not in tests)
    for one in tests:
        if one.name.startswith("test_attack_"):
            says = " ".join((ast.get_docstring(one) or "").split())
            skipped = around or bool(_SKIPS.search(ast.unparse(one)))
            yield Attack(file.relative_to(ROOT).as_posix(), one.name, says, skipped)


def table() -> str:
    """In Markdown. ValueError for a docstring that does not say both things, KeyError when one of `ASKED` is gone."""
    found = {one.key: one for one in attacks()}
    rows = [("", *found[key].cells, name) for name, key in ASKED.items()]
    out = ["\n| | what the attacker does | what becomes of it | test |\n|---|---|---|---|\n"]
    out += [f"| **{name}** | {does} | {becomes} | {test} |\n" for _, does, becomes, test, name in rows]
    left = [one for one in found.values() if one.key not in ASKED.values()]
    placed = {f"test_{module}.py": heading for heading, modules in SECTIONS.items() for module in modules}
    for heading in (*SECTIONS, FURTHER):
        here = [one for one in left if placed.get(Path(one.file).name, FURTHER) == heading]
        if here:
            out.append(f"\n### {heading}\n\n| what the attacker does | what becomes of it | test |\n|---|---|---|\n")
            out += [f"| {' | '.join(one.cells)} |\n" for one in sorted(here, key=lambda one: _place(one, heading))]
    return "".join(out) + "\n"


def _place(one: Attack, heading: str) -> int:
    modules = SECTIONS.get(heading, ())
    name = Path(one.file).stem.removeprefix("test_")
    return modules.index(name) if name in modules else 0


def written() -> str:
    """The table that stands in the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.access.attack_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    if parser.parse_args().write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text.replace(BEGIN + written() + END, BEGIN + table() + END), encoding="utf-8")
    else:
        sys.stdout.write(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
