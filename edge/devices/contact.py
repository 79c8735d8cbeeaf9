"""The one switch line of a printer's drawer connector (or of a drawer's own box), and the drawers that hang on it.

With one drawer the line speaks of that drawer. Two drawers (one on pin 2, one on pin 5) share the line, and what can be
known is less:

    closed              all are closed
    open                at least one is open: the one that was commanded while all were closed, or, with no command,
                        one of them (the fact names all); of the others nothing is known
    still open          a drawer commanded while another is open cannot be seen to open: its outcome is unknown

Drawers that give the level different meanings cannot both be right: then nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from drivers.events import DrawerStatus
from edge.devices.drawer import SHARED, Drawer


class Contact:
    """One line; `turn` is held by the opening in hand, so that the line speaks of one opening at a time."""

    def __init__(self, drawers: Sequence[Drawer]) -> None:
        self.drawers = drawers
        self.turn = asyncio.Lock()

    def says(self, status: DrawerStatus) -> None:
        """Take what the printer says of its pin 3."""
        if len(self.drawers) == 1:
            self.drawers[0].contact(self.drawers[0].opener.is_open(status))
            return
        said = {drawer.opener.is_open(status) for drawer in self.drawers}
        open_ = said.pop() if len(said) == 1 else None
        if open_:
            self._one_is_open()
        else:
            for drawer in self.drawers:
                drawer.contact(open_)

    def lost(self) -> None:
        """The printer has gone or come back: nothing is known until it speaks."""
        for drawer in self.drawers:
            drawer.blind = True
            drawer.contact(None)

    def make_way(self, drawer: Drawer) -> None:
        """`drawer` is about to be opened: from now on the line speaks of it."""
        for other in self.drawers:
            if other is not drawer:
                other.settle("unknown", "a drawer on the same contact was opened before its outcome was seen")

    def _one_is_open(self) -> None:
        commanded = next((drawer for drawer in self.drawers if drawer.pending is not None), None)
        known = next((drawer for drawer in self.drawers if drawer.known is not None and drawer.known.open), None)
        if known is not None and commanded is not None and commanded is not known:
            commanded.settle("unknown", SHARED)
        spoken_of = known or commanded or self.drawers[0]
        others = tuple(drawer for drawer in self.drawers if drawer is not spoken_of)
        spoken_of.contact(True, tuple(drawer.device.id for drawer in others))
        for drawer in others:
            drawer.contact(None)
