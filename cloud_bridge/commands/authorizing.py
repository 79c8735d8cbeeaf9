"""`tillgate hq authority`: the certificates that stores show to the cloud broker."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import SubParsers, complain, database_arguments, with_database

if TYPE_CHECKING:
    from sqlalchemy import Engine

EPILOG = """
examples:
  tillgate hq authority init /srv/authority --chain Example
  tillgate hq authority issue /srv/authority --store S0042 --out s0042/     key and certificate for provisioning
  tillgate hq authority issue /srv/authority --store S0042 --csr s0042.csr  the store keeps its key
  tillgate hq authority issue /srv/authority --store hq-1 --out hq-1/       a receiver's, or whoever publishes
  tillgate hq authority broker /srv/authority --name mqtt.hq.example --out broker/    the cloud broker's own
  tillgate hq authority answer /srv/authority --url postgresql+psycopg://hq@db/hq    what stores have asked for
  tillgate hq authority revoke /srv/authority --store S0042                 a stolen gateway

The cloud broker gets authority.pem (mosquitto: cafile) and revoked.crl (crlfile), and takes the common name for
the client's name (use_identity_as_username); docs/hq.md has a whole mosquitto.conf.
Run `answer` now and then (a timer, once a day) on the machine that has authority.key; receivers never need it.
"""


def add(parts: SubParsers) -> None:
    """Add it."""
    raw = argparse.RawDescriptionHelpFormatter
    family = parts.add_parser(
        "authority", help="certificates of stores for the cloud broker", epilog=EPILOG, formatter_class=raw
    )
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = {}
    for name, help_, run in (
        ("init", "make the authority", _init),
        ("issue", "sign one store's certificate", _issue),
        ("broker", "make the cloud broker's own certificate, where it has none of another authority", _broker),
        ("answer", "sign what stores have asked for through the link", _answer),
        ("revoke", "revoke all certificates of a store", _revoke),
        ("list", "what was signed", _list),
    ):
        made[name] = commands.add_parser(name, help=help_, epilog=EPILOG, formatter_class=raw)
        made[name].add_argument("folder", type=Path, metavar="DIR", help="where the authority is")
        made[name].set_defaults(run=run)
    made["init"].add_argument("--chain", required=True, help="whose stores these are: stands in every certificate")
    for name in ("issue", "revoke"):
        made[name].add_argument("--store", required=True, metavar="ID")
    made["issue"].add_argument("--csr", type=Path, metavar="FILE", help="the store's request (PEM)")
    made["issue"].add_argument("--out", type=Path, metavar="DIR", help="where it goes (default: the terminal)")
    made["broker"].add_argument(
        "--name", required=True, action="append", metavar="HOST", help="host name or address of the broker (repeatable)"
    )
    made["broker"].add_argument("--out", type=Path, required=True, metavar="DIR", help="where it goes")
    for name in ("issue", "broker", "answer"):
        made[name].add_argument("--days", type=float, default=365, help="how long it is good (default 365)")
    database_arguments(made["answer"])


def _init(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority

    try:
        StoresAuthority.make(arguments.folder, arguments.chain)
    except (BadAuthority, OSError, ValueError) as error:
        return complain(str(error))
    print(arguments.folder / "authority.pem")
    return 0


def _issue(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority
    from cloud_bridge.identity import make_request
    from edge.access.certificates import BadRequest
    from edge.seal import write_secret

    if arguments.csr is None and arguments.out is None:
        return complain("--out DIR for a new key and its certificate, or --csr FILE from the store")
    try:
        authority = StoresAuthority(arguments.folder)
        if arguments.csr is not None:
            csr = arguments.csr.read_text(encoding="ascii")
        else:
            csr = make_request(arguments.out, arguments.store)
        certificate, renew_at = authority.issue(arguments.store, csr, arguments.days)
        if arguments.out is None:
            print(certificate, end="")
            return 0
        arguments.out.mkdir(parents=True, exist_ok=True)
        if arguments.csr is None:
            (arguments.out / "pending.key").replace(arguments.out / "store.key")
        (arguments.out / "cloud-ca.pem").write_text(authority.certificate, encoding="ascii")
        write_secret(arguments.out / "store.pem", f"# renew at {renew_at}\n{certificate}".encode())
    except (BadAuthority, BadRequest, OSError, ValueError) as error:
        return complain(str(error))
    print(arguments.out / "store.pem")
    return 0


def _broker(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority
    from edge.access.certificates import BadRequest
    from edge.seal import write_secret

    try:
        certificate, key = StoresAuthority(arguments.folder).issue_broker(arguments.name, arguments.days)
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_secret(arguments.out / "broker.key", key.encode())
        (arguments.out / "broker.pem").write_text(certificate, encoding="ascii")
    except (BadAuthority, BadRequest, OSError, ValueError) as error:
        return complain(str(error))
    print(arguments.out / "broker.pem")
    return 0


def _answer(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority

    try:
        authority = StoresAuthority(arguments.folder)
    except BadAuthority as error:
        return complain(str(error))

    def answer(engine: Engine) -> int:
        from cloud_bridge.hq.renewals import Renewals

        answered = Renewals(engine).answer(authority, arguments.days)
        for store, refused in answered:
            print(f"{store}  {'refused: ' + refused if refused else 'signed; it gets it when it asks again'}")
        if not answered:
            print("no store waits")
        return 0

    return with_database(arguments.url, answer, there=True)


def _revoke(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority

    try:
        count = StoresAuthority(arguments.folder).revoke(arguments.store)
    except BadAuthority as error:
        return complain(str(error))
    revoked = "1 certificate" if count == 1 else f"{count} certificates"
    print(f"{revoked} revoked; bring {arguments.folder / 'revoked.crl'} to the cloud broker now, and have it read it")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq.authority import BadAuthority, StoresAuthority

    try:
        for one in StoresAuthority(arguments.folder).issued:
            print(f"{one['store']:<20} until {one['until'][:10]}  {'revoked' if one['revoked'] else ''}".rstrip())
    except BadAuthority as error:
        return complain(str(error))
    return 0
