"""`python -m edge.till`: enrol this machine as a till, and see the first scan arrive."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from edge.bus.invitation import BadCode, read
from edge.till.enrolling import NotEnrolled, enrol
from edge.till.identity import Identity, NoIdentity
from edge.till.ledger import WrongLedger
from edge.till.till import Till

EPILOG = """\
examples:
  python -m edge.till enrol                       asks for the code; finds the gateway by mDNS
  python -m edge.till enrol --host 192.0.2.10     ... or takes its address
  python -m edge.till enrol <code.txt             the code, or the QR code's text, from a file
  python -m edge.till scans                       later: what is scanned at this lane

exit status: 0 done, 1 not enrolled (why is said), 2 the code has a typing error or the identity cannot be used
"""
FOLDER = Path("till-identity")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.till",
        description="A till of a Tillgate store, for people: enrol it, and listen to its lane's scanner.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    joining = commands.add_parser(
        "enrol",
        help="enrol with an invitation, then show what is scanned",
        description="Asks for the code of an invitation (or the QR code's text), makes this machine's key, enrols, and "
        "shows the lane's scans until Ctrl-C. The code is no argument: other users of this machine could read it.",
    )
    joining.add_argument("--host", metavar="HOST", help="the gateway's address, where mDNS does not reach it")
    joining.add_argument("--port", type=int, metavar="PORT", help="of its enrolment listener (default 8884)")
    joining.set_defaults(run=_enrol)
    watching = commands.add_parser("scans", help="show what is scanned at this lane", description="Until Ctrl-C.")
    watching.set_defaults(run=_scans)
    for one in (joining, watching):
        one.add_argument("--identity", type=Path, default=FOLDER, metavar="DIR", help=f"its folder (default {FOLDER})")
        one.add_argument("--count", type=int, metavar="N", help="end after so many scans; 0: show none")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    try:
        return int(asyncio.run(chosen.run(chosen)))
    except KeyboardInterrupt:
        return 130
    except (BadCode, NoIdentity, WrongLedger) as error:
        return _complain(str(error), 2)
    except NotEnrolled as error:
        return _complain(f"not enrolled: {error}", 1)
    except OSError as error:
        return _complain(f"cannot keep the identity in {chosen.identity}: {error}", 2)


def _complain(what: str, status: int) -> int:
    print(what, file=sys.stderr)
    return status


async def _enrol(chosen: argparse.Namespace) -> int:
    identity = await enrol(_code(), chosen.identity, host=chosen.host, port=chosen.port)
    print(f"this is lane {identity.lane} of store {identity.store} now; key and certificate are in {identity.folder}")
    return await _show(identity, chosen.count)


def _code() -> str:
    """What is typed, read from a file or scanned; who types is asked again after a typing error. Raises BadCode."""
    while True:
        if sys.stdin.isatty():
            print("the code of the invitation: ", end="", flush=True)
        given = sys.stdin.readline()
        try:
            read(given)
        except BadCode as error:
            if not given.strip() or not sys.stdin.isatty():
                raise
            print(error, file=sys.stderr)
        else:
            return given


async def _scans(chosen: argparse.Namespace) -> int:
    return await _show(Identity.load(chosen.identity), chosen.count)


async def _show(identity: Identity, count: int | None) -> int:
    left = count
    if left == 0:
        return 0
    ledger = identity.folder / "till.db"
    async with Till(identity=identity, ledger_path=ledger, address=identity.bus(), app="edge.till") as till:
        print("scan something ...", flush=True)
        async for scan in till.scans():
            print(f"{scan.text}  {scan.symbology or ''}".rstrip(), flush=True)
            left = None if left is None else left - 1
            if left == 0:
                break
    return 0


if __name__ == "__main__":
    sys.exit(main())
