"""What is wrong with the gateway and a person should mend, in plain words: shown in its status until it is over.

Strategy: whoever notices says `set` under a code of its own and `clear` when it is over; the same said again changes
nothing. A warning stops nothing. What a till or a device needs at once has a place of its own (`please`, a problem).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.bus.envelope import now_utc
from edge.bus.messages.statuses import GatewayWarning

log = logging.getLogger(__name__)

MAX_SHOWN = 20
"""More would make the status too large for a small screen; the oldest are shown."""


class Warnings:
    """The gateway's warnings. `on_change` is called on the loop whenever what is shown changes."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._now: dict[str, GatewayWarning] = {}

    def set(self, code: str, text: str) -> None:
        """From now on this is wrong: what, and what a person should do.

        Control characters in it are replaced: it may quote a stranger, and is read on a terminal.
        """
        text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
        before = self._now.get(code)
        if before is not None and before.text == text:
            return
        self._now[code] = GatewayWarning(code=code, text=text, since=before.since if before else now_utc())
        if before is None:
            log.warning("%s: %s", code, text)
        self._changed()

    def clear(self, code: str) -> None:
        """It is over, if it ever was."""
        if self._now.pop(code, None) is not None:
            log.info("%s is over", code)
            self._changed()

    def shown(self) -> tuple[GatewayWarning, ...]:
        """All that is wrong now, the oldest first."""
        return tuple(self._now.values())[:MAX_SHOWN]

    def _changed(self) -> None:
        for changed in self.on_change:
            changed()
