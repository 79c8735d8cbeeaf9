"""`tillgate cloud`: what a technician does for the store's own link to HQ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cloud_bridge.commands.at_hq import SubParsers


def add(parts: SubParsers) -> None:
    """Add `tillgate cloud pins` and `tillgate cloud certificate`."""
    _add_certificate(parts)
    parser = parts.add_parser(
        "pins",
        help="the pins of certificates, for [cloud.tls] pins",
        description="Prints for each certificate of FILE its pin: the SHA-256 of its SubjectPublicKeyInfo in base64"
        " (RFC 7469). Pin the authority of the broker's certificate, and the one it will have next.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="PEM, for instance the authority's certificate")
    parser.set_defaults(run=_pins)


def _add_certificate(parts: SubParsers) -> None:
    family = parts.add_parser(
        "certificate",
        help="bring in the store's next certificate by hand",
        description="For a store whose certificate has ended while it was cut off: make a request, have HQ sign it"
        " (`tillgate hq authority issue DIR --store ID --csr FILE`), install what comes back. The running bridge tries"
        " it within seconds; nothing has to be started again, and selling never stopped.",
    )
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)
    request = commands.add_parser("request", help="print a request (PEM) for HQ to sign; the key stays here")
    request.set_defaults(run=_request)
    install = commands.add_parser("install", help="use the certificate that HQ made from the last request")
    install.add_argument("file", type=Path, metavar="FILE", help="PEM")
    install.set_defaults(run=_install)
    for one in (request, install):
        one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the store.toml")


def _request(arguments: argparse.Namespace) -> int:
    from cloud_bridge.identity import folder_of, make_request
    from edge.config import BadConfig, load

    try:
        config = load(arguments.config)
        print(make_request(folder_of(config.state_dir), config.store.id), end="")
    except (BadConfig, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _install(arguments: argparse.Namespace) -> int:
    from cloud_bridge.identity import folder_of, install
    from edge.config import BadConfig, load

    try:
        config = load(arguments.config)
        text = arguments.file.read_text(encoding="ascii")
        install(folder_of(config.state_dir), config.store.id, text, renew=None, after=None)
    except (BadConfig, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("the bridge tries it now; `tillgate status` says until when it is good")
    return 0


def _pins(arguments: argparse.Namespace) -> int:
    from cryptography import x509

    from edge.bus.address import pin_of

    try:
        found = x509.load_pem_x509_certificates(arguments.file.read_bytes())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{arguments.file}: no certificates: {error}\n")
        return 2
    for one in found:
        print(f"{pin_of(one)}  {one.subject.rfc4514_string()}, until {one.not_valid_after_utc:%Y-%m-%d}")
    return 0
