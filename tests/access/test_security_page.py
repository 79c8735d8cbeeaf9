"""docs/security.md: its attack table says what the tests say, and its figures are those of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from cloud_bridge import believing, certificate_days
from edge.access import authority, enrolment_listener, gate, invitations, lockout, overrides
from edge.access.certificates import BEGINNING
from edge.access.roles import ROLES, Role
from edge.bus import enrolment
from edge.bus.broker import BrokerSettings
from edge.bus.messages.links import HQ_WARNINGS
from edge.config import Bus, Enrolment, Limits
from edge.config_hq import LEAST_RETENTION_DAYS
from tests.access import attack_table
from tests.access.attack_table import ASKED, PAGE, ROOT, attacks

TEXT = PAGE.read_text(encoding="utf-8")
LIMITS = enrolment_listener.Limits()
PER_S, AT_ONCE = LIMITS.opened
BROKER = BrokerSettings(Path("state"), Path("broker.sock"))


def test_the_table_and_the_tests_agree() -> None:
    """Each attack is a row and each row a test, in its own words."""
    assert attack_table.written() == attack_table.table(), "python -m tests.access.attack_table --write"


def test_each_attack_is_run() -> None:
    assert [one.key for one in attacks() if one.skipped] == []


def test_what_everybody_asks_for_is_there_row_by_row() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| .+ \| .+ \| \[`(.+?)`\]", TEXT, re.MULTILINE)
    assert [row for row in rows if row[0] in ASKED] == list(ASKED.items())
    assert len(set(ASKED.values())) == len(ASKED) == 21


def test_every_warning_there_is_stands_in_the_technicians_page() -> None:
    codes = set(HQ_WARNINGS)
    for file in (ROOT / "edge").rglob("*.py"):
        for code in re.findall(
            r'(?:warnings\.set|self\._tell)\(\s*f?("[^"]+"|[A-Z_]+)', file.read_text(encoding="utf-8")
        ):
            if not code.startswith('"'):
                code = getattr(importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts)), code)
            codes.add(re.sub(r"\{.*\}", "N", code.strip('"')))
    section = (ROOT / "docs" / "link.md").read_text(encoding="utf-8").split("## Warnings")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(.+?)`", row)} == codes


def test_every_link_leads_somewhere() -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", TEXT):
        file = (PAGE.parent / target).resolve() if target else PAGE
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, anchor


@pytest.mark.parametrize(
    ("sentence", "found", "said"),
    [
        ("with 30 of 90 days left", (authority.RENEW_LEFT.days, authority.LIFE.days), (30, 90)),
        ("or after 90 days of running", authority.OVERLAP_H, 90 * 24),
        ("Certificates begin in 1970", BEGINNING.year, 1970),
        ("by mutual TLS on 8883", (Bus().port, Bus().plain_port), (8883, None)),
        ("The port, 8884", (Enrolment().port, enrolment.PORT), (8884, 8884)),
        ("80 random bits, 15 minutes, one till", invitations.LIFE_S, 15 * 60),
        ("at most 4,560 of 2⁸⁰", AT_ONCE + PER_S * invitations.LIFE_S, 4_560),
        ("Five proofs that do not hold", invitations.MAX_FAILURES, 5),
        ("one request of at most 16 KiB, 10 seconds", (enrolment.MAX_BODY_BYTES, LIMITS.whole_s), (16 * 1024, 10.0)),
        ("6 connections of one address and 32 in all", (LIMITS.connections_of_address, LIMITS.connections), (6, 32)),
        ("Above 200 messages a second (burst 2,000)", (Limits().messages_per_s, Limits().burst), (200, 2_000)),
        ("after two seconds cut for 2, 4, 8 ... 300 seconds", (gate.FLOOD_S, gate.PAUSE_S), (2.0, 2.0)),
        ("2, 4, 8 ... 300 seconds", gate.LONGEST_PAUSE_S, 300.0),
        ("A packet is at most 512 KiB", BROKER.max_packet_bytes, 512 * 1024),
        ("a message 64 KiB", Limits().message_bytes, 64 * 1024),
        ("holds all 200 connections", BROKER.max_connections, 200),
        ("retention (7 days or more)", LEAST_RETENTION_DAYS, 7),
        ("ten minutes older than the newest heard", believing.OLD_MS, 10 * 60_000),
        ("warns from 30 days on", certificate_days.WARN_DAYS, 30),
        ("at most a quarter of an hour", lockout.HERE.longest_s, 15 * 60.0),
        ("one approval for one person, one thing, one lane, one minute", overrides.GRANT_S, 60.0),
        ("| cashier | 6 ", ROLES[Role.CASHIER].least_characters, 6),
        ("| supervisor | 8 ", ROLES[Role.SUPERVISOR].least_characters, 8),
        ("| technician | 12 ", ROLES[Role.TECHNICIAN].least_characters, 12),
        ("| owner | 12 ", ROLES[Role.OWNER].least_characters, 12),
    ],
)
def test_a_figure_of_the_page_is_the_codes(sentence: str, found: object, said: object) -> None:
    assert found == said
    assert sentence in " ".join(TEXT.split())
