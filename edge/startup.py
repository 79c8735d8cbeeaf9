"""What each of our commands does first: read the configuration, say what is wrong with it, and log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge.card_guard import guard_process

if TYPE_CHECKING:
    from edge.config import StoreConfig


def loaded(file: Path) -> StoreConfig | None:
    """The configuration, or None after its complaints have been printed."""
    from edge.config import BadConfig, load

    try:
        return load(file)
    except BadConfig as error:
        complain(str(error))
        return None


def complain(what: str) -> int:
    """Print what is wrong where errors go; returns exit status 2."""
    print(what, file=sys.stderr)
    return 2


def start_logging() -> None:
    """Log lines, without card numbers, to stderr, where systemd's journal (or a file) takes them with its own time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    guard_process()


class _OneLine(logging.Formatter):
    """Shows control characters escaped: what a till says can neither forge a line nor move a terminal's cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not record.message.isprintable():
            shown = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in record.message)
            record.message = "".join(shown)
        return super().formatMessage(record)
