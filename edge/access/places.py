"""Where a person logs in: a lane, or the box itself."""

from __future__ import annotations

BOX = "@box"
"""The technician's desk: whoever can open the broker's own socket. No lane can have this id."""


def lane_of(place: str) -> str | None:
    """The lane, where it is one."""
    return None if place == BOX else place
