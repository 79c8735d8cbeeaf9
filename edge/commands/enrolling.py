"""`tillgate lanes invite|list|revoke`: how a till comes to be a lane, and how it ceases to be one.

The running gateway does it; these commands ask its desk and show what it says. The code of an invitation is shown here
and nowhere else: it is on no command line and in no log.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import sys
from collections.abc import Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.desk import Desk, NoGateway, Refused, desk, log_in_argument
from edge.seal import write_secret
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from PIL.Image import Image

    from edge.config import StoreConfig

EPILOG = """
examples:
  tillgate lanes invite 3                      a code for the till of lane 3: QR code and letters, here
  tillgate lanes invite 3 --html lane-3.html   the same as a page to show on a phone or to print
  tillgate lanes list                          which lanes have a till, until when, seen when
  tillgate lanes revoke 3                      the till of lane 3 was stolen: it is out at once

Whoever has the code before the till is that lane: show it to nobody, and only where it is used.
"""

ASK_S = 10.0
WAIT_S = 20.0
"""One question for the outcome waits so long at the gateway; then it is asked again."""
_DOTS, _MARGIN_DOTS, _LINE_DOTS = 8, 48, 40


def add_commands(commands: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``invite``, ``list`` and ``revoke`` beside the other commands of ``tillgate lanes``."""
    invite = commands.add_parser(
        "invite",
        help="make a code with which a till enrols at a lane",
        description="Makes an invitation, good for 15 minutes and one till, shows it and waits until it has been used. "
        "A former one of the same lane is over. Exit status 1: nobody came.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    invite.add_argument("lane", metavar="LANE", help="the lane's id, as in the configuration")
    how = invite.add_mutually_exclusive_group()
    how.add_argument("--png", type=Path, metavar="FILE", help="write a picture, instead of drawing here")
    how.add_argument("--html", type=Path, metavar="FILE", help="write a page, instead of drawing here")
    how.add_argument("--json", action="store_true", help="print one JSON object, and do not wait")
    invite.add_argument("--no-wait", action="store_true", help="do not wait for the till")
    log_in_argument(invite)
    config_argument(invite)
    invite.set_defaults(run=_invite)

    listing = commands.add_parser(
        "list",
        help="which lanes have a till",
        description="One line per lane: its certificate, the days left of it, and when its till was last there.",
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    config_argument(listing)
    listing.set_defaults(run=_list, without_log_in=False)

    revoke = commands.add_parser(
        "revoke",
        help="shut a lane's till out at once",
        description="Makes every certificate of the lane worthless, for good. What its till has not handed over yet "
        "stays on that till. The lane goes on with a till that enrols anew.",
    )
    revoke.add_argument("lane", metavar="LANE", help="the lane's id")
    log_in_argument(revoke)
    config_argument(revoke)
    revoke.set_defaults(run=_revoke)


def _asking(chosen: argparse.Namespace, ask: Callable[[StoreConfig, Desk], Any]) -> int:
    """Run `ask` with a connection to the gateway; returns the exit status."""
    config = loaded(chosen.config)
    if config is None:
        return 2

    async def asked() -> int:
        async with desk(config, without_log_in=chosen.without_log_in) as there:
            return int(await ask(config, there))

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
    except OSError as error:  # only `invite` writes
        return complain(f"cannot write {chosen.png or chosen.html}: {error.strerror or error}")


# -- invite ------------------------------------------------------------------------------------------------------------


def _invite(chosen: argparse.Namespace) -> int:
    async def ask(config: StoreConfig, there: Desk) -> int:
        made = await there.ask("lanes.invite", {"lane": chosen.lane}, ASK_S)
        if chosen.json:
            print(json.dumps(made, indent=1))
            return 0
        _show(made, chosen)
        if chosen.no_wait:
            return 0
        try:
            return await _wait(made, there)
        except asyncio.CancelledError:
            print("\nthe code stays good until its time is over; `tillgate lanes invite` again ends it")
            raise

    return _asking(chosen, ask)


def _show(made: dict[str, Any], chosen: argparse.Namespace) -> None:
    from edge.bus.invitation import grouped

    code, minutes = grouped(made["code"]), made["expires_s"] // 60
    title = f"Lane {made['lane']}, store {made['store']}"
    if chosen.png is not None:
        write_secret(chosen.png, _png(made["text"], title, code))
        print(f"{chosen.png}: show it to the till, then delete it. It is good for {minutes} minutes and one till.")
        return
    if chosen.html is not None:
        write_secret(chosen.html, page(made["text"], title, code, minutes).encode())
        print(f"{chosen.html}: show it to the till, then delete it. It is good for {minutes} minutes and one till.")
        return
    from edge.commands.lanes import draw_here

    draw_here(made["text"])
    print(f"{title}: scan this with the till, or type\n\n    {code}\n")
    print(f"Good for {minutes} minutes and one till. Where mDNS does not reach: --host {made['hosts'][0]}", end="")
    print(f" --port {made['port']}" if made["port"] != 8884 else "", flush=True)


async def _wait(made: dict[str, Any], there: Desk) -> int:
    """Until the invitation is over; returns the exit status."""
    lane, failures = made["lane"], 0
    while True:
        found = await there.ask("lanes.invited", {"invitation": made["invitation"]}, WAIT_S)
        if sys.stdout.isatty():
            print(f"\rwaiting for the till; {-(-found['left_s'] // 60)} minutes left ", end="", flush=True)
        if found["failures"] > failures:
            failures = found["failures"]
            print(f"\nan attempt was refused: tillgate status says why ({failures} so far)", flush=True)
        if found["state"] != "open":
            break
    start = "\r\033[K" if sys.stdout.isatty() else ""
    if found["state"] == "used":
        print(f"{start}lane {lane} has enrolled")
        return 0
    why = {
        "expired": "nobody came in time",
        "blocked": "blocked after too many failures: somebody is at work on the network",
        "withdrawn": "replaced or withdrawn",
    }
    print(f"{start}lane {lane} has not enrolled: {why[found['state']]}")
    return 1


def _dots(text: str) -> list[list[bool]]:
    import qrcode

    code = qrcode.QRCode(border=0)
    code.add_data(text)
    dots: list[list[bool]] = code.get_matrix()
    return dots


def picture(text: str, title: str, code: str) -> Image:
    """The invitation as a picture: title, QR code, and the code for people."""
    from PIL import Image, ImageDraw, ImageFont

    dots, font = _dots(text), ImageFont.load_default(_LINE_DOTS)
    side = len(dots) * _DOTS
    wide = max(side, int(font.getlength(code)), int(font.getlength(title))) + 2 * _MARGIN_DOTS
    top = 2 * _MARGIN_DOTS + _LINE_DOTS
    made = Image.new("1", (wide, top + side + 2 * _MARGIN_DOTS + _LINE_DOTS), 1)
    draw = ImageDraw.Draw(made)
    draw.text((wide / 2, _MARGIN_DOTS), title, 0, font, anchor="ma")
    left = (wide - side) // 2
    for row, cells in enumerate(dots):
        for column, dark in enumerate(cells):
            if dark:
                x, y = left + column * _DOTS, top + row * _DOTS
                draw.rectangle((x, y, x + _DOTS - 1, y + _DOTS - 1), 0)
    draw.text((wide / 2, top + side + _MARGIN_DOTS), code, 0, font, anchor="ma")
    return made


def _png(text: str, title: str, code: str) -> bytes:
    out = io.BytesIO()
    picture(text, title, code).save(out, "PNG")
    return out.getvalue()


def page(text: str, title: str, code: str, minutes: int) -> str:
    """The invitation as a page that needs nothing else."""
    image = base64.b64encode(_png(text, title, code)).decode("ascii")
    until = datetime.fromtimestamp(datetime.now().astimezone().timestamp() + minutes * 60).astimezone()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<body style="font:1.2em sans-serif;text-align:center;margin:2em">\n'
        f'<img alt="{escape(code)}" style="max-width:100%" src="data:image/png;base64,{image}">\n'
        f"<p>Scan it with the till, or type <b><code>{escape(code)}</code></b></p>\n"
        f"<p>Good until {until:%H:%M} ({minutes} minutes) and for one till. Delete this page then.</p>\n"
    )


# -- list and revoke ---------------------------------------------------------------------------------------------------


def _list(chosen: argparse.Namespace) -> int:
    async def ask(config: StoreConfig, there: Desk) -> int:
        found = await there.ask("lanes.list", {}, ASK_S)
        if chosen.json:
            print(json.dumps(found, indent=1, ensure_ascii=False))
            return 0
        heads = ("lane", "certificate", "days left", "last seen", "name")
        rows = [heads]
        for row in found["lanes"]:
            days = "-" if row["days_left"] is None else str(row["days_left"])
            state = "no till yet" if row["state"] == "none" else row["state"]
            rows.append((row["lane"], state, days, row["seen"] or "-", row["name"]))
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return 0

    return _asking(chosen, ask)


def _revoke(chosen: argparse.Namespace) -> int:
    async def ask(config: StoreConfig, there: Desk) -> int:
        done = await there.ask("lanes.revoke", {"lane": chosen.lane}, ASK_S)
        count = done["revoked"]
        if not count:
            print(f"lane {chosen.lane} had no certificate that counts; an open invitation of it is over.")
            return 0
        print(f"lane {chosen.lane} is shut out: {count} certificate{'s' if count > 1 else ''} revoked.")
        print(f"For a new till: tillgate lanes invite {chosen.lane}")
        return 0

    return _asking(chosen, ask)
