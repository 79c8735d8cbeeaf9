"""Bad manners of cloud brokers, each a way to treat one client. `stand_in` treats the others well meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.cloud_bridge import stand_in_packets as mqtt
from tests.cloud_bridge.stand_in import Connection, Manners
from tests.cloud_bridge.stand_in_packets import Connect, Publish

Wanted = Callable[[Publish], bool]


def facts(message: Publish) -> bool:
    """Whether this is a batch of facts and no question or status."""
    return message.topic.rpartition("/")[2] not in ("need", "status")


def of_class(name: str) -> Wanted:
    return lambda message: message.topic.endswith(f"/up/{name}")


class Refuses(Manners):
    """CONNACK says no, `times` times (None: always)."""

    def __init__(self, code: int, times: int | None = None) -> None:
        self.code, self.left = code, times

    def connack(self, connect: Connect) -> tuple[int, mqtt.Properties] | None:
        if self.left is None:
            return self.code, {}
        self.left -= 1
        return (self.code if self.left >= 0 else 0), {}


class Silent(Manners):
    """CONNECT is read and never answered."""

    def connack(self, connect: Connect) -> tuple[int, mqtt.Properties] | None:
        return None


class Says(Manners):
    """CONNACK carries these properties; they are held to, as far as they are limits."""

    def __init__(self, **properties: int) -> None:
        self.properties = properties

    def connack(self, connect: Connect) -> tuple[int, mqtt.Properties] | None:
        return 0, dict(self.properties) if connect.version == 5 else {}


class Forgets(Manners):
    """Acknowledges and throws away, `times` times (None: always): a queue that is full, a broker that was killed."""

    def __init__(self, wanted: Wanted = facts, times: int | None = None) -> None:
        self.wanted, self.left, self.forgotten = wanted, times, 0

    def publish(self, link: Connection, message: Publish) -> None:
        if self.wanted(message) and self.left != 0:
            self.left = None if self.left is None else self.left - 1
            self.forgotten += 1
            link.puback_soon(message)
        else:
            super().publish(link, message)


class RefusesTopic(Manners):
    """Says no to a publish: PUBACK with a code; with 3.1.1, which has none, the connection is closed."""

    def __init__(self, wanted: Wanted, code: int = 0x87) -> None:
        self.wanted, self.code, self.refused = wanted, code, 0

    def publish(self, link: Connection, message: Publish) -> None:
        if not self.wanted(message):
            super().publish(link, message)
            return
        self.refused += 1
        if link.version == 5:
            link.puback_soon(message, self.code)
        else:
            link.end()


class RefusesSubscriptions(Manners):
    """Answers so many subscriptions of a topic with 0x80, as a cluster does that has just lost a node."""

    def __init__(self, part: str, times: int) -> None:
        self.part, self.times = part, times

    def subscribed(self, link: Connection, topic_filter: str, granted: int) -> int:
        """Refuse while there is something left to refuse."""
        if self.part not in topic_filter or not self.times:
            return granted
        self.times -= 1
        return 0x80


class CutsOnSize(Manners):
    """Closes when a packet is larger than it likes, of which it has said nothing."""

    def __init__(self, size_bytes: int, code: int | None = None) -> None:
        self.size_bytes, self.code, self.cuts = size_bytes, code, 0

    def publish(self, link: Connection, message: Publish) -> None:
        if message.size > self.size_bytes:
            self.cuts += 1
            link.end(self.code)
        else:
            super().publish(link, message)


class Repeats(Manners):
    """Hands on every message `times` times: a broker that lost its own acknowledgements."""

    def __init__(self, times: int = 2) -> None:
        self.times = times

    def publish(self, link: Connection, message: Publish) -> None:
        for _ in range(self.times):
            link.broker.route(message)
        link.puback_soon(message)


class AcksLate(Manners):
    """Hands on at once and acknowledges after a while."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s

    def publish(self, link: Connection, message: Publish) -> None:
        link.broker.route(message)
        link.puback_soon(message, after_s=self.after_s)


class NeverAcks(Manners):
    """Hands on and never acknowledges; with `swallows` not even that. Pings are answered."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.swallows, self.got = swallows, 0

    def publish(self, link: Connection, message: Publish) -> None:
        self.got += facts(message)
        if not self.swallows:
            link.broker.route(message)


class AcksTwice(Manners):
    """Acknowledges twice, and a packet id that nobody ever used."""

    def publish(self, link: Connection, message: Publish) -> None:
        super().publish(link, message)
        link.puback_soon(message)
        link.puback(60_000 + message.packet_id % 5_000)


class AcksBackwards(Manners):
    """Acknowledges what came within a moment from the last to the first."""

    def __init__(self, moment_s: float = 0.05) -> None:
        self.moment_s, self.most = moment_s, 0
        self._kept: list[Publish] = []

    def publish(self, link: Connection, message: Publish) -> None:
        link.broker.route(message)
        if not self._kept:
            asyncio.get_running_loop().call_later(self.moment_s, self._acknowledge, link)
        self._kept.append(message)

    def _acknowledge(self, link: Connection) -> None:
        self.most = max(self.most, len(self._kept))
        for message in reversed(self._kept):
            link.puback(message.packet_id)
        self._kept.clear()


class Ends(Manners):
    """Says good-bye with `code` in the middle: at every `every`th batch of facts, `times` times."""

    def __init__(self, code: int | None, *, every: int = 3, times: int = 1, routes: bool = True) -> None:
        self.code, self.every, self.left, self.routes, self._count = code, every, times, routes, 0

    def publish(self, link: Connection, message: Publish) -> None:
        if self.left and facts(message):
            self._count += 1
            if self._count % self.every == 0:
                self.left -= 1
                if self.routes:
                    link.broker.route(message)  # it has it, and does not say so
                link.end(self.code)
                return
        super().publish(link, message)


class Freezes(Manners):
    """After `after` batches of facts nothing is read any more: the line is dead and looks alive."""

    def __init__(self, after: int = 2) -> None:
        self.left = after

    def publish(self, link: Connection, message: Publish) -> None:
        super().publish(link, message)
        self.left -= facts(message)
        if self.left == 0:
            link.flowing.clear()
