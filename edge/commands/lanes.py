"""`tillgate lanes ...`: cards that bind scanners to lanes.

A card is drawn twice, as a QR code and as Code 128, so that any scanner reads it. It depends on nothing but the
configuration, so it is made without asking the gateway.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.startup import complain, loaded

if TYPE_CHECKING:
    from PIL.Image import Image

_EPILOG = """
examples:
  tillgate lanes card 3                        the card of lane 3 in this terminal; scan it from the screen
  tillgate lanes card 3 --png lane-3.png       the same as a picture to print
  tillgate lanes card --home                   brings a scanner back to the lanes of the configuration

Scan a card with a scanner: from then on that scanner serves that lane, also after a restart or when it was unplugged,
until it scans another card. Nothing of a card reaches a till.
"""

_QR_DOTS, _BAR_DOTS, _MARGIN_DOTS, _BAR_HEIGHT_DOTS, _TITLE_DOTS = 10, 3, 60, 160, 64


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``lanes`` and its own commands on the `tillgate` command line."""
    lanes = subparsers.add_parser(
        "lanes",
        help="make cards that bind a scanner to a lane",
        description="What concerns the lanes of a store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = lanes.add_subparsers(title="commands", metavar="COMMAND", required=True)
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
    card.add_argument("--png", type=Path, metavar="FILE", help="write a picture to print, instead of drawing it here")
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
    if chosen.png is None:
        _draw_here(text)
        print(f"{title}, store {config.store.id}: {text}")
        return 0
    try:
        picture(text, f"{title}, store {config.store.id}").save(chosen.png, "PNG")
    except OSError as error:
        return complain(f"cannot write {chosen.png}: {error.strerror or error}")
    print(f"{chosen.png}: {title}. Print it, then scan it with the scanner that shall serve there.")
    return 0


def _draw_here(text: str) -> None:
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
