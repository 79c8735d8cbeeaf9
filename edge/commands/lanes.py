"""`tillgate lanes ...`: cards that bind scanners to lanes; what concerns their tills is in `enrolling`.

A card is drawn twice, as a QR code and as Code 128, so that any scanner reads it. It depends on nothing but the
configuration, so it is made without asking the gateway, unless one of its printers shall print it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands import enrolling
from edge.commands.desk import log_in_argument
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from PIL.Image import Image

    from edge.config import StoreConfig

_EPILOG = """
examples:
  tillgate lanes card 3                        the card of lane 3 in this terminal; scan it from the screen
  tillgate lanes card 3 --printer printer-1    printed on a receipt printer of the running gateway
  tillgate lanes card 3 --png lane-3.png       the same as a picture to print
  tillgate lanes card --home                   brings a scanner back to the lanes of the configuration

Scan a card with a scanner: from then on that scanner serves that lane, also after a restart or when it was unplugged,
until it scans another card. Nothing of a card reaches a till.
"""

PRINT_S = 20.0
_QR_DOTS, _BAR_DOTS, _MARGIN_DOTS, _BAR_HEIGHT_DOTS, _TITLE_DOTS = 10, 3, 60, 160, 64


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``lanes`` and its own commands on the `tillgate` command line."""
    lanes = subparsers.add_parser(
        "lanes",
        help="let tills enrol, shut them out, make cards that bind a scanner to a lane",
        description="What concerns the lanes of a store.",
        epilog=enrolling.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = lanes.add_subparsers(title="commands", metavar="COMMAND", required=True)
    enrolling.add_commands(commands, config_argument)
    card = commands.add_parser(
        "card",
        help="make the card of a lane",
        description="Makes a lane card: whichever scanner reads it serves that lane from then on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = card.add_mutually_exclusive_group(required=True)
    which.add_argument("lane", nargs="?", metavar="LANE", help="the lane's id, as in the configuration")
    which.add_argument("--home", action="store_true", help="the card that undoes the others")
    how = card.add_mutually_exclusive_group()
    how.add_argument("--printer", metavar="NAME", help="print it on this receipt printer, instead of drawing it here")
    how.add_argument("--png", type=Path, metavar="FILE", help="write a picture to print, instead of drawing it here")
    log_in_argument(card)
    config_argument(card)
    card.set_defaults(run=_card)


def _card(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    if chosen.lane is not None and config.lane(chosen.lane) is None:
        known = ", ".join(lane.id for lane in config.lanes)
        return complain(f"there is no lane {chosen.lane!r} in {chosen.config}; lanes: {known}")
    from edge.devices.lane_cards import card_text

    text = card_text(config.store.id, chosen.lane)
    title = f"Lane {chosen.lane}" if chosen.lane is not None else "Home lane"
    if chosen.printer is not None:
        return _print(config, chosen, title, text)
    if chosen.png is None:
        draw_here(text)
        print(f"{title}, store {config.store.id}: {text}")
        return 0
    try:
        picture(text, f"{title}, store {config.store.id}").save(chosen.png, "PNG")
    except OSError as error:
        return complain(f"cannot write {chosen.png}: {error.strerror or error}")
    print(f"{chosen.png}: {title}. Print it, then scan it with the scanner that shall serve there.")
    return 0


def _print(config: StoreConfig, chosen: argparse.Namespace, title: str, text: str) -> int:
    import asyncio

    from edge.commands.desk import NoGateway, Refused, ask

    page = {"device": chosen.printer, "document": receipt(text, f"{title}, store {config.store.id}")}
    try:
        result = asyncio.run(ask(config, "device.print", page, PRINT_S, without_log_in=chosen.without_log_in))
    except NoGateway as error:
        return complain(str(error))
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1
    print(f"{chosen.printer}: {title} is {result['state']}. Scan it with the scanner that shall serve there.")
    return 0


def receipt(text: str, title: str) -> list[dict[str, Any]]:
    """The card as a document for a receipt printer. Its bars run along the paper, which is too narrow for them."""
    import base64
    import io

    from barcode.codex import Code128
    from PIL import Image

    bars = Code128(text).build()[0]
    along = Image.new("1", (_BAR_HEIGHT_DOTS, len(bars) * _BAR_DOTS), 1)
    for place, module in enumerate(bars):
        if module == "1":
            along.paste(0, (0, place * _BAR_DOTS, _BAR_HEIGHT_DOTS, (place + 1) * _BAR_DOTS))
    png = io.BytesIO()
    along.save(png, "PNG")
    return [
        {"kind": "text", "text": title, "align": "center", "bold": True, "height": 2},
        {"kind": "feed", "lines": 2},
        {"kind": "qr", "data": text, "size": 8},
        {"kind": "feed", "lines": 3},
        {"kind": "image", "png": base64.b64encode(png.getvalue()).decode("ascii")},
        {"kind": "feed", "lines": 2},
        {"kind": "text", "text": text, "align": "center"},
        {"kind": "cut"},
    ]


def draw_here(text: str) -> None:
    """Draw a QR code in this terminal."""
    import qrcode

    code = qrcode.QRCode(border=2)
    code.add_data(text)
    if sys.stdout.isatty():
        code.print_tty()  # black on white, whatever the terminal's colours are
    else:
        code.print_ascii(invert=True)


def picture(text: str, title: str) -> Image:
    """The card as a picture: title, QR code, Code 128, and the text for people."""
    import qrcode
    from barcode.codex import Code128
    from PIL import Image, ImageDraw, ImageFont

    code = qrcode.QRCode(border=0)
    code.add_data(text)
    matrix = code.get_matrix()
    bars = Code128(text).build()[0]
    width = max(len(matrix) * _QR_DOTS, len(bars) * _BAR_DOTS) + 2 * _MARGIN_DOTS
    qr_top = 2 * _MARGIN_DOTS + _TITLE_DOTS
    bars_top = qr_top + len(matrix) * _QR_DOTS + _MARGIN_DOTS
    height = bars_top + _BAR_HEIGHT_DOTS + _MARGIN_DOTS + _TITLE_DOTS
    card = Image.new("1", (width, height), 1)
    draw = ImageDraw.Draw(card)
    draw.text((width / 2, _MARGIN_DOTS), title, 0, ImageFont.load_default(_TITLE_DOTS), anchor="ma")
    qr_left = (width - len(matrix) * _QR_DOTS) // 2
    for row, cells in enumerate(matrix):
        for column, dark in enumerate(cells):
            if dark:
                left, top = qr_left + column * _QR_DOTS, qr_top + row * _QR_DOTS
                draw.rectangle((left, top, left + _QR_DOTS - 1, top + _QR_DOTS - 1), 0)
    bars_left = (width - len(bars) * _BAR_DOTS) // 2
    for column, module in enumerate(bars):
        if module == "1":
            left = bars_left + column * _BAR_DOTS
            draw.rectangle((left, bars_top, left + _BAR_DOTS - 1, bars_top + _BAR_HEIGHT_DOTS - 1), 0)
    foot = ImageFont.load_default(_TITLE_DOTS // 2)
    draw.text((width / 2, bars_top + _BAR_HEIGHT_DOTS + _MARGIN_DOTS / 2), text, 0, foot, anchor="ma")
    return card
