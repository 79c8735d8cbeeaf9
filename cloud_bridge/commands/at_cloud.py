"""`tillgate cloud`: what a technician does for the store's own link to HQ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cloud_bridge.commands.at_hq import SubParsers


def add(parts: SubParsers) -> None:
    """Add `tillgate cloud pins`."""
    parser = parts.add_parser(
        "pins",
        help="the pins of certificates, for [cloud.tls] pins",
        description="Prints for each certificate of FILE its pin: the SHA-256 of its SubjectPublicKeyInfo in base64"
        " (RFC 7469). Pin the authority of the broker's certificate, and the one it will have next.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="PEM, for instance the authority's certificate")
    parser.set_defaults(run=_pins)


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
