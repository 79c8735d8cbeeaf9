"""What this package adds to the `tillgate` command: `bridge` at the store, `hq` at the other end."""

from __future__ import annotations

import argparse
from pathlib import Path

from cloud_bridge.commands import (
    at_cloud,
    auditing,
    authorizing,
    commanding,
    configuring,
    fleet,
    noticing,
    outages,
    parked,
    prices,
    privacy,
    receiving,
)
from cloud_bridge.commands.at_hq import SubParsers

HQ_EPILOG = """
examples:
  tillgate hq receive --url sqlite:///hq.db --broker cloud.example:8883 --tls-ca ca.pem
  tillgate hq receive --url postgresql+psycopg://hq@db/hq --broker cloud.example
  tillgate hq stores --url sqlite:///hq.db     every store, those in trouble first
  tillgate hq stores S0042                     one store: chains, backlog, last outages
  tillgate hq verify                           is everything here, and unchanged?
  tillgate hq audit --store S0042              who did what there
  tillgate hq keygen hq.key                    prints the public key for store.toml ([cloud] price_key)
  tillgate hq prices publish list.csv --store s1 --version 2026-05-04 --currency EUR --key hq.key
  tillgate hq command send --store s1 --key hq.key status.report
  tillgate hq privacy erase 4711-0815 --key hq.key
  tillgate hq configure limits.toml --store s1 --key hq.key
  tillgate hq notice publish --group north --key hq.key --text "Closed on Monday." --for 3d

Any number of receivers may run on one database: the cloud broker shares the work out among them. A broker that has no
shared subscriptions (RabbitMQ, NATS) gives each receiver everything: run one, and perhaps one more as a spare.
"""


def bridge(commands: SubParsers) -> None:
    """Add `tillgate bridge`, `tillgate outages`, `tillgate parked` and `tillgate cloud`."""
    parser = commands.add_parser(
        "bridge",
        help="run the link to HQ of one store",
        description="The bridge process: sends the journal to HQ and brings prices back. `tillgate run` and systemd"
        " start it; by hand it is useful to watch the link.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the store.toml")
    parser.set_defaults(run=_bridge)
    outages.add(commands)
    parked.add(commands)
    _add_cloud(commands)


def _bridge(arguments: argparse.Namespace) -> int:
    from cloud_bridge import daemon

    return daemon.run(arguments.config)


def _add_cloud(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "cloud",
        help="this store's link to HQ: its certificate and whom it believes",
        description="What a technician does for the store's own link to HQ.",
    )
    at_cloud.add(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))


def hq(commands: SubParsers) -> None:
    """Add `tillgate hq`."""
    parser = commands.add_parser(
        "hq",
        help="HQ's end: receive facts, publish prices, look at the stores",
        description="HQ's end of the link: what runs beside the cloud broker.",
        epilog=HQ_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    families = (receiving, fleet, auditing, prices, commanding, noticing, configuring, privacy, authorizing)
    for family in families:
        family.add(parts)
