"""A print head for tests of documents: it keeps what is printed."""

from __future__ import annotations

from drivers.virtual.paper import Item, Strip


class Paper:
    """A print head that keeps what is printed."""

    def __init__(self) -> None:
        self.strip = Strip()
        self.cuts: list[Strip] = []
        self.kicks: list[tuple[int, int]] = []
        self.replies = b""

    def stuck(self) -> bool:
        return False

    def put(self, item: Item) -> None:
        self.strip.items.append(item)

    def cut(self) -> None:
        self.cuts.append(self.strip)
        self.strip = Strip()

    def kick(self, connector: int, on_ms: int) -> None:
        self.kicks.append((connector, on_ms))

    def automatic_status(self, mask: int) -> None:
        pass

    def display(self, data: bytes) -> None:
        pass

    def reply(self, data: bytes) -> None:
        self.replies += data

    def status_request(self, number: int) -> None:
        pass
