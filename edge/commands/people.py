"""`tillgate people ...`: who works here, and what each may.

The running gateway does it; these commands ask its desk. Passwords and codes are asked for on the terminal, never taken
from the command line, where others could read them.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.commands.desk import Desk, NoGateway, Refused, desk, log_in_argument, session_file
from edge.commands.lanes import draw_here
from edge.seal import write_secret
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from edge.config import StoreConfig

_EPILOG = """
examples:
  tillgate people add olga --role owner        the first one, on the box; asks for a password
  tillgate people log-in olga                  for a quarter of an hour: what is changed now, she has changed
  tillgate people add anna --role cashier --name "Anna B."
  tillgate people totp olga                    a QR code for an authenticator app, then one of its codes
  tillgate people recovery olga                ten codes on paper, for when the phone is gone
  tillgate people unlock anna                  after wrong tries: she may try again at once

roles: a cashier works at a lane; a supervisor also approves of what needs two ([people] overrides). Passwords need 6
characters for a cashier, 8 for a supervisor, 12 for the others. Once there is an owner, commands at the box ask for a
log-in, and the audit names who it was:
  a technician or an owner   lanes invite|revoke, lanes card --printer, devices record|calibrate
  an owner                   access authority rotate|drop, access key rotate|add|drop, privacy, people
  whoever it is              their own password, app and recovery codes
--without-log-in goes on without, and the audit says so. Looking asks for nothing.
"""

ROLES = ("cashier", "supervisor", "technician", "owner")
ASK_S = 20.0

Ask = Callable[["StoreConfig", Desk, argparse.Namespace], Any]


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``people`` and its own commands on the `tillgate` command line."""
    people = subparsers.add_parser(
        "people",
        help="who works here, and what each may",
        description="The people of a store: passwords, authenticator apps, roles. Whoever can open the gateway's own "
        "socket (root, or the gateway's user) can do all of it; a log-in puts a name into the audit.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = people.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, ask: Ask, help_: str, *, person: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=f"{help_.capitalize()}.")
        if person:
            parser.add_argument("person", metavar="ID", help="the person's id: a short name without blanks")
        log_in_argument(parser)
        config_argument(parser)
        parser.set_defaults(run=_run, ask=ask)
        return parser

    listing = command("list", _list, "who there is", person=False)
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    add = command("add", _add, "add a person")
    add.add_argument("--role", required=True, choices=ROLES)
    add.add_argument("--name", metavar="TEXT", help="for people (default: the id)")
    command("disable", _disable, "let a person in no more, and log them out")
    command("enable", _enable, "let a person in again")
    role = command("role", _role, "give a person another role")
    role.add_argument("role", choices=ROLES)
    command("password", _password, "give a person another password")
    totp = command("totp", _totp, "couple an authenticator app")
    totp.add_argument("--off", action="store_true", help="take it off again, and the recovery codes with it")
    command("recovery", _recovery, "make ten new recovery codes; older ones are void")
    command("unlock", _unlock, "end the pause after wrong tries")
    command("log-in", _log_in, "log in on this box for a quarter of an hour")
    command("log-out", _log_out, "log out again", person=False)


def _run(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2

    async def asked() -> int:
        async with desk(config, without_log_in=chosen.without_log_in) as there:
            return int(await chosen.ask(config, there, chosen))

    try:
        return asyncio.run(asked())
    except NoGateway as error:
        return complain(str(error))
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1
    except TimeoutError:
        complain("the gateway does not answer in time")
        return 1
    except EOFError:
        return complain("nothing was typed")
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}")


# -- asking ------------------------------------------------------------------------------------------------------------


async def _about(there: Desk, chosen: argparse.Namespace, operation: str, **more: Any) -> dict[str, Any]:
    """Ask for something with the person who was named."""
    return await there.ask(operation, {"person": chosen.person, **more}, ASK_S)


async def _typed(prompt: str) -> str:
    """What a person types and nobody sees; beside it the connection lives on."""
    return await asyncio.to_thread(getpass.getpass, f"{prompt}: ")


async def _new_password(person: str) -> str:
    while True:
        password = await _typed(f"New password for {person}")
        if password == await _typed("The same again"):
            return password
        complain("These two differ; once more.")


# -- commands ----------------------------------------------------------------------------------------------------------


async def _list(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    found = await there.ask("people.list", {}, ASK_S)
    if chosen.json:
        print(json.dumps(found, indent=1))
        return 0
    for one in found["people"]:
        factor = f"app, {one['recovery_codes']} recovery codes" if one["app"] else "password only"
        factor += f", {one['passkeys']} passkeys" if one["passkeys"] else ""
        state = "" if one["active"] else ", disabled"
        where = f", logged in: {', '.join(one['logged_in_at'])}" if one["logged_in_at"] else ""
        print(f"{one['person']:<16} {one['role']:<11} {one['name']} ({factor}{state}{where})")
    for one in found["unreadable"]:
        print(f"{one:<16} cannot be read: its key is not here (tillgate access key show)")
    if not found["people"]:
        print("nobody yet: tillgate people add NAME --role owner")
    return 0


async def _add(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    password = await _new_password(chosen.person)
    name = chosen.name or chosen.person
    await _about(there, chosen, "people.add", name=name, role=chosen.role, password=password)
    print(f"{chosen.person} is {'an' if chosen.role == 'owner' else 'a'} {chosen.role} here now.")
    if chosen.role in ("technician", "owner"):
        print(f"Better with a second factor: tillgate people totp {chosen.person}")
    return 0


async def _disable(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    await _about(there, chosen, "people.active", active=False)
    print(f"{chosen.person} cannot log in any more, and is logged out everywhere.")
    return 0


async def _enable(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    await _about(there, chosen, "people.active", active=True)
    print(f"{chosen.person} may log in again.")
    return 0


async def _role(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    try:
        await _about(there, chosen, "people.role", role=chosen.role)
    except Refused as error:
        if error.code != "conflict" or "give a new one" not in str(error):
            raise
        complain(str(error))
        password = await _new_password(chosen.person)
        await _about(there, chosen, "people.role", role=chosen.role, password=password)
    print(f"{chosen.person} is {'an' if chosen.role == 'owner' else 'a'} {chosen.role} from now on.")
    return 0


async def _password(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    await _about(there, chosen, "people.password", password=await _new_password(chosen.person))
    print(f"{chosen.person} has a new password, and is logged out everywhere.")
    return 0


async def _totp(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    if chosen.off:
        await _about(there, chosen, "people.app_off")
        print(f"{chosen.person} logs in with the password alone.")
        return 0
    uri = (await _about(there, chosen, "people.app"))["uri"]
    draw_here(uri)
    secret = uri.partition("secret=")[2].partition("&")[0]
    print(f"Scan it with an authenticator app, or type its key: {secret}")
    for _ in range(3):
        try:
            code = await _typed("The code that it shows")
            await _about(there, chosen, "people.app_taken", code=code)
        except Refused as error:
            if error.code != "log_in_refused":
                raise
            complain(str(error))
            continue
        print(f"{chosen.person} needs a code from now on. For a lost phone: tillgate people recovery {chosen.person}")
        return 0
    return 1


async def _recovery(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    codes = (await _about(there, chosen, "people.recovery"))["codes"]
    print("\n".join(codes))
    sys.stderr.write("Each is good once, in place of the app's code. Keep them on paper; they are not shown again.\n")
    return 0


async def _unlock(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    await _about(there, chosen, "people.unlock")
    print(f"{chosen.person} may try again at once.")
    return 0


async def _log_in(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    wish: dict[str, Any] = {"person": chosen.person, "password": await _typed(f"Password of {chosen.person}")}
    code = await _typed("Code of the app, or a recovery code (empty without)")
    made = await there.ask("people.log_in", wish | ({"code": code} if code else {}), ASK_S)
    write_secret(session_file(config), made["session"].encode())
    print(f"{made['name']}, {made['role']}: logged in on this box. It ends after 15 minutes without a command.")
    return 0


async def _log_out(config: StoreConfig, there: Desk, chosen: argparse.Namespace) -> int:
    result = await there.ask("people.log_out", {}, ASK_S)
    session_file(config).unlink(missing_ok=True)
    print("logged out" if result["logged_out"] else "nobody was logged in")
    return 0
