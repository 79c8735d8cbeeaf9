"""`tillgate access authority ...`: the authority that certifies a store's broker and lanes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.commands.desk import log_in_argument
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from edge.config import StoreConfig

WITHIN_S = 20.0

_EPILOG = """
examples:
  tillgate access authority show           fingerprint, the broker's certificate, lanes with their days left
  tillgate access authority rotate         a new authority; tills follow by themselves as they are switched on
  tillgate access authority drop           believe the former one no more, now: when its key may have been copied
  tillgate access authority rotate --anew  when the authority's key is lost: every till must be enrolled again
"""


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``authority`` and its own commands below `tillgate access`."""
    authority = subparsers.add_parser(
        "authority",
        help="the authority that certifies this store's tills",
        description="The store's own authority signs the certificates of its broker and lanes; nobody else's counts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = authority.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="how it is, and how each lane stands")
    config_argument(show)
    show.set_defaults(run=_show, without_log_in=False)
    rotate = commands.add_parser(
        "rotate",
        help="put a new authority in its place",
        description="Makes a new authority. Both are believed until every till has followed, at most for 90 days of a "
        "running gateway; nobody has to do anything, and nothing is interrupted.",
    )
    rotate.add_argument(
        "--anew", action="store_true", help="without the old key, which is lost: enrol every till again"
    )
    rotate.add_argument("--yes", action="store_true", help="with --anew: do not ask")
    log_in_argument(rotate)
    config_argument(rotate)
    rotate.set_defaults(run=_rotate)
    drop = commands.add_parser(
        "drop",
        help="believe the former authority no more, now",
        description="Ends the time in which both authorities are believed. A till that has not followed must be "
        "enrolled again; it goes on selling and keeps its facts meanwhile.",
    )
    log_in_argument(drop)
    config_argument(drop)
    drop.set_defaults(run=_drop)


def _show(chosen: argparse.Namespace) -> int:
    return _asked(chosen, "authority.show", {}, _shown)


def _rotate(chosen: argparse.Namespace) -> int:
    if chosen.anew and not chosen.yes:
        answer = input("Every till of this store must be enrolled again. Type ANEW to go on: ")
        if answer.strip() != "ANEW":
            return complain("nothing was changed")
    told = (
        "Enrol every till: tillgate lanes invite LANE"
        if chosen.anew
        else "Tills follow as they are switched on: tillgate access authority show"
    )
    return _asked(
        chosen,
        "authority.rotate",
        {"anew": chosen.anew},
        lambda result: _said(f"The authority is now {_short(result['fingerprint'])}. {told}"),
    )


def _drop(chosen: argparse.Namespace) -> int:
    def told(result: dict[str, Any]) -> int:
        if result["fingerprint"] is None:
            return complain("there is no former authority: nothing was changed")
        print(f"The former authority {_short(result['fingerprint'])} is believed no more.")
        if result["lanes"]:
            print(f"To be enrolled again: lanes {', '.join(result['lanes'])} (tillgate lanes invite LANE)")
        return 0

    return _asked(chosen, "authority.drop", {}, told)


def _shown(result: dict[str, Any]) -> int:
    if result["fault"]:
        print(f"fault      {result['fault']}")
    for one in result["authorities"]:
        left = "" if one["left_h"] is None else f", believed for {-(-one['left_h'] // 24)} more days"
        print(f"{one['role']:<10} {_short(one['fingerprint'])}  since {one['since'][:10]}{left}")
        revoked = "1 certificate" if one["revoked"] == 1 else f"{one['revoked']} certificates"
        print(f"{'':<10} {revoked} revoked; it has no end: replace it by rotating")
    broker = result["broker"]
    if broker is not None:
        print(f"broker     {broker['days_left']} days left, signed by the {broker['authority']} authority")
    print()
    print(f"{'lane':<16} {'certificate':<12} {'days left':>9}  authority")
    for row in result["lanes"]:
        print(f"{row['lane']:<16} {row['state']:<12} {row['days_left']:>9}  {row['authority']}")
    if not result["lanes"]:
        print("no lane has a certificate yet: tillgate lanes invite LANE")
    return 1 if result["fault"] else 0


def _said(text: str) -> int:
    print(text)
    return 0


def _short(fingerprint: str) -> str:
    """The first half, in groups that a person can read out."""
    return " ".join(fingerprint[place : place + 4] for place in range(0, 32, 4))


def _asked(
    chosen: argparse.Namespace, operation: str, parameters: dict[str, Any], told: Callable[[dict[str, Any]], int]
) -> int:
    import asyncio

    from edge.commands.desk import NoGateway, Refused, ask

    config: StoreConfig | None = loaded(chosen.config)
    if config is None:
        return 2
    try:
        result = asyncio.run(ask(config, operation, parameters, WITHIN_S, without_log_in=chosen.without_log_in))
    except NoGateway as error:
        return complain(str(error))
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1
    return told(result)
