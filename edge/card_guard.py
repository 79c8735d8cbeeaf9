"""Keeps payment card data out of what a process says: its log, the tracebacks in it, and its last words.

Strategy: whoever starts a process calls `guard_process` once its logging is set up; from then on every line of every
handler, and whatever Python prints of exceptions that nobody caught, passes `card_numbers.masked`. A library that lives
in somebody else's process takes its loggers from `guarded`.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from edge.card_numbers import masked


class LogFilter(logging.Filter):
    """Masks card data in a line, in the exception that it tells of, and in its traceback. Drops nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # of a wrong format; the handler says so, arguments and all
            record.msg, record.args = masked(f"{record.msg} {record.args!r}"), None
        else:
            if (clean := masked(message)) != message:
                record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters print `exc_text` where there is one; another handler may have written it.
            told = record.exc_text or "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            record.exc_text = masked(told)
        if record.stack_info:
            record.stack_info = masked(record.stack_info)
        return True


def guarded(name: str) -> logging.Logger:
    """The logger of this name, whose lines are masked whichever handlers they go to."""
    logger = logging.getLogger(name)
    if not any(isinstance(one, LogFilter) for one in logger.filters):
        logger.addFilter(LogFilter())
    return logger


def guard_process() -> None:
    """Mask what goes through the root logger's handlers, and exceptions that nobody caught, in any thread.

    asyncio tells of its own through the log. faulthandler needs nothing: it prints files and lines and no values.
    """
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, LogFilter) for one in handler.filters):
            handler.addFilter(LogFilter())
    sys.excepthook = _told
    threading.excepthook = _told_of_thread
    sys.unraisablehook = _told_of_unraisable


def _told(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))
    sys.stderr.flush()


def _told_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "<unknown>"
        sys.stderr.write(masked(f"Exception in thread {name}:\n"))
        _told(args.exc_type, args.exc_value, args.exc_traceback)


def _told_of_unraisable(args: Any) -> None:
    sys.stderr.write(masked(f"{args.err_msg or 'Exception ignored in'}: {args.object!r}\n"))
    _told(args.exc_type, args.exc_value, args.exc_traceback)
