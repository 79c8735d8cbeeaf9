"""Commands at the box beside a running gateway: who must log in for what, and whom the audit names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bench.gateway import Gateway, gateway, lanes_toml
from edge.commands.desk import session_file
from tests.flows.test_people_command import ANNA, OLGA, type_

TINA = "wires under the old floor"


@pytest.fixture
async def running() -> AsyncIterator[Gateway]:
    """A gateway at which tills can enrol."""
    async with gateway(lanes_toml(1), tls=True) as at:
        yield at


async def audited(at: Gateway, *actions: str) -> list[tuple[Any, ...]]:
    """Action, outcome, person and subject of these entries, oldest first."""
    status, out, err = await type_(at, "audit", "list", "--json")
    assert status == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    return [(one["action"], one["outcome"], one["person"], one["subject"]) for one in found if one["action"] in actions]


async def add(at: Gateway, person: str, role: str, password: str) -> None:
    status, _, err = await type_(
        at, "people", "add", person, "--role", role, "--without-log-in", hand=(password, password)
    )
    assert status == 0, err


async def log_in(at: Gateway, person: str, password: str) -> None:
    status, _, err = await type_(at, "people", "log-in", person, hand=(password, ""))
    assert status == 0, err


INVITE = ("lanes", "invite", "1", "--json")


async def test_nothing_is_asked_for_until_there_is_an_owner(running: Gateway) -> None:
    await add(running, "tina", "technician", TINA)
    session_file(running.config).write_text("of somebody who is not known any more")
    for words in (INVITE, ("lanes", "revoke", "1"), ("access", "authority", "rotate"), ("access", "key", "rotate")):
        status, _, err = await type_(running, *words)
        assert status == 0, err
    seen = await audited(running, "lane.invited", "authority.rotated", "box.asked")
    assert [one[:3] for one in seen] == [
        ("lane.invited", "done", "box:carla"),
        ("authority.rotated", "done", "box:carla"),
    ]


async def test_whoever_is_logged_in_stands_in_the_audit(running: Gateway) -> None:
    await add(running, "tina", "technician", TINA)
    await add(running, "olga", "owner", OLGA)
    await log_in(running, "tina", TINA)
    assert (await type_(running, *INVITE))[0] == 0
    assert (await type_(running, "lanes", "revoke", "1"))[0] == 0
    for words in (
        ("access", "authority", "rotate"),
        ("access", "key", "rotate"),
        ("privacy", "erase", "4711", "--yes"),
    ):
        status, _, err = await type_(running, *words)
        assert status == 1
        assert "not_allowed: a technician may not do this" in err
    await log_in(running, "olga", OLGA)
    for words in (
        ("access", "authority", "rotate"),
        ("access", "key", "rotate"),
        ("privacy", "erase", "4711", "--yes"),
    ):
        status, _, err = await type_(running, *words)
        assert status == 0, err
    seen = await audited(
        running, "lane.invited", "lane.invitation_withdrawn", "authority.rotated", "subject.erased", "box.asked"
    )
    assert [one[:3] for one in seen] == [
        ("lane.invited", "done", "tina"),
        ("lane.invitation_withdrawn", "done", "tina"),
        *[("box.asked", "refused", "tina")] * 3,
        ("authority.rotated", "done", "olga"),
        ("box.asked", "done", "olga"),
        ("subject.erased", "done", "olga"),
    ]


async def test_attack_lane_invited_at_the_box_by_whoever_is_there(running: Gateway) -> None:
    """Somebody at the box invites a till, logged in as nobody or as a cashier: refused and recorded, looking is free;
    `--without-log-in` lets root go on, and the audit says so.
    """
    await add(running, "anna", "cashier", ANNA)
    await add(running, "olga", "owner", OLGA)
    status, _, err = await type_(running, *INVITE)
    assert status == 1
    assert "log in first: tillgate people log-in NAME; or --without-log-in, which is recorded" in err
    await log_in(running, "anna", ANNA)
    for words in (INVITE, ("lanes", "revoke", "1"), ("access", "authority", "drop"), ("privacy", "export", "4711")):
        status, _, err = await type_(running, *words)
        assert status == 1
        assert "a cashier may not do this" in err
    for words in (("lanes", "list"), ("access", "authority", "show"), ("devices", "list"), ("access", "key", "show")):
        status, _, err = await type_(running, *words)
        assert status == 0, err
    status, _, err = await type_(running, *INVITE, "--without-log-in")
    assert status == 0, err
    assert await audited(running, "lane.invited", "box.asked") == [
        ("box.asked", "refused", "box:carla", "lanes.invite"),
        ("box.asked", "refused", "anna", "lanes.invite"),
        ("box.asked", "refused", "anna", "lanes.revoke"),
        ("box.asked", "refused", "anna", "authority.drop"),
        ("box.asked", "refused", "anna", "privacy.export"),
        ("lane.invited", "done", "box:carla", None),
    ]
