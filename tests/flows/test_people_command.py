"""`tillgate people` beside a running gateway: what an owner types, what comes back, what the audit says of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from bench.gateway import Gateway
from tests.access.people_rig import app_code
from tests.flows.plain_till import PlainTill


async def type_(at: Gateway, *words: str, hand: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """`tillgate WORDS`, without a terminal: what is typed comes from the hand. Exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", *words, "--config", str(at.config.file),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "SUDO_USER": "carla"}, start_new_session=True,
    )  # fmt: skip
    typed = "".join(f"{line}\n" for line in hand).encode()
    out, err = await asyncio.wait_for(process.communicate(typed), 60)
    return process.returncode or 0, out.decode(), err.decode()


OLGA, ANNA = "seven yellow boats at noon", "482617"


async def test_from_the_first_owner_to_a_cashier_at_a_till(running: Gateway, till: PlainTill) -> None:
    status, out, _ = await type_(running, "people", "list")
    assert (status, out) == (0, "nobody yet: tillgate people add NAME --role owner\n")
    status, _, err = await type_(running, "people", "add", "olga", "--role", "owner", hand=("password1!", "password1!"))
    assert status == 1
    assert "at least 12" in err
    status, out, err = await type_(running, "people", "add", "olga", "--role", "owner", hand=(OLGA, OLGA))
    assert status == 0, err
    assert "olga is an owner here now" in out

    status, _, err = await type_(running, "people", "add", "anna", "--role", "cashier", hand=(ANNA, ANNA))
    assert status == 1
    assert "log in first" in err
    status, out, err = await type_(running, "people", "log-in", "olga", hand=(OLGA, ""))
    assert status == 0, err
    assert (await type_(running, "people", "add", "anna", "--role", "cashier", hand=(ANNA, ANNA)))[0] == 0
    (kept,) = (running.config.state_dir / "run").glob("session-*")
    assert kept.stat().st_mode & 0o777 == 0o600

    answer = await till.request("person.log_in", "r-1", person="anna", password=ANNA)
    assert answer["result"]["role"] == "cashier"
    assert (await till.request("person.log_in", "r-2", person="anna", password="482618"))["problem"][
        "code"
    ] == "log_in_refused"

    assert (await type_(running, "people", "log-out"))[0] == 0
    status, _, err = await type_(running, "people", "disable", "anna", "--without-log-in")
    assert status == 0, err
    status, out, _ = await type_(running, "people", "list", "--json")
    assert [(one["person"], one["active"]) for one in json.loads(out)["people"]] == [("anna", False), ("olga", True)]

    status, out, err = await type_(running, "audit", "list", "--json")
    assert status == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    seen = [
        (one["action"], one["outcome"], one["person"], one["subject"])
        for one in found
        if one["action"][:7] == "person."
    ]
    assert seen == [
        ("person.added", "done", "box:carla", "olga"),
        ("person.logged_in", "done", "olga", None),
        ("person.added", "done", "olga", "anna"),
        ("person.logged_in", "done", "anna", None),
        ("person.logged_in", "refused", "anna", None),
        ("person.logged_out", "done", "olga", None),
        ("person.disabled", "done", "box:carla", "anna"),
    ]
    status, out, err = await type_(running, "audit", "verify")
    assert status == 0, err
    assert "audit entries among them" in out


async def test_an_app_is_coupled_and_asked_for(running: Gateway) -> None:
    await type_(running, "people", "add", "olga", "--role", "owner", hand=(OLGA, OLGA))
    await type_(running, "people", "log-in", "olga", hand=(OLGA, ""))
    status, out, err = await type_(running, "people", "totp", "olga", hand=("000000", "000000", "000000"))
    assert status == 1
    assert err.count("not a code of this app") == 3
    secret = out.partition("type its key: ")[2].split()[0]
    assert len(app_code(f"otpauth://totp/x?secret={secret}", 59)) == 6
    status, _, err = await type_(running, "people", "recovery", "olga")
    assert status == 1
    assert "no authenticator app" in err
