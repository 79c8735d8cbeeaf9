"""A cloud broker in foreign hands: what it says to our client after CONNECT. Real sockets on loopback, a real client.

An input is all that the broker says on one connection; it may begin with a CONNACK. The client must not raise, hands
no message to a handler twice, and is ready for the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from edge.bus.address import Address
from edge.bus.client import Backoff, Client, Message
from edge.bus.errors import Disconnected
from tests.fuzz import mqtt
from tests.fuzz.door import Door, Way, World
from tests.fuzz.hostile import PACKETS
from tests.fuzz.readers import Contradiction
from tests.fuzz.structure import Structured

WITHIN_S = 20.0
CONNACK = mqtt.packet(0x20, b"\0\0\0")
SUBACK = mqtt.packet(0x90, b"\0\x01\0\x01")


class Broker(World):
    """The broker, and the client that connects again and again."""

    name = "broker"
    together = 1

    async def open(self) -> None:
        """Listen, and let the client come."""
        self._waiting: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._server = await asyncio.start_server(lambda *pair: self._waiting.put_nowait(pair), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._heard = 0
        self._client = Client(
            Address(host="127.0.0.1", port=port), client_id="S1", backoff=Backoff(0.0, 0.0), connect_timeout_s=10.0,
            max_packet_bytes=65_536,
        )  # fmt: skip
        self._client.on_message("tg/v1/+/confirmed", self._hear)
        self._lost: asyncio.Queue[Disconnected] = asyncio.Queue()
        self._client.on_disconnect.append(self._lost.put_nowait)
        self._exit = contextlib.AsyncExitStack()
        await self._exit.enter_async_context(self._client)

    def _hear(self, message: Message) -> None:
        self._heard += 1
        message.ack()

    def feed(self, data: bytes) -> str:
        """Keep it for `settle`."""
        self._data = data
        return "said"

    async def settle(self, *, alone: bool) -> None:
        """One connection: answer CONNECT with the input and hang up, and wait until the client has noticed."""
        try:
            async with asyncio.timeout(WITHIN_S):
                reader, writer = await self._waiting.get()
                await reader.read(1_024)
                with contextlib.suppress(OSError):  # it may have hung up at the first bytes
                    writer.write(self._data)
                    writer.write_eof()
                await self._lost.get()
                writer.transport.abort()
        except TimeoutError:
            raise Contradiction(f"the client has not come back within {WITHIN_S:g} s") from None
        if self._client._failed or self._client.counters.bugs:
            raise Contradiction("the client has failed")
        if len(self._client._routes) > 20_000 or self._client.waiting:
            raise Contradiction("the client remembers more than it should")

    async def close(self) -> None:
        """End both."""
        self._server.close()
        await self._exit.aclose()


def said(random: Random) -> bytes:
    """A greeting, as a rule a good one, and some packets."""
    greeting = random.choice((
        CONNACK, CONNACK, CONNACK, mqtt.packet(0x20, b"\1\0\0"), mqtt.packet(0x20, b"\0\x87\0"), b"",
        mqtt.packet(0x20, b"\0\0" + _properties(random)), mqtt.packet(0x20, b"\0" + random.randbytes(3)),
    ))  # fmt: skip
    packets = [random.choice(PACKETS) for _ in range(random.randrange(3))]
    if random.random() < 0.7:
        packets.insert(0, SUBACK)
    if random.random() < 0.3:
        packets.append(mqtt.packet(random.getrandbits(8), random.randbytes(random.randrange(8))))
    return greeting + b"".join(packets)


_LIMITS = (
    *(b"\x21\0\0", b"\x21\0\x01", b"\x24\0", b"\x25\0", b"\x27\0\0\0\0", b"\x27\0\0\0\x01", b"\x27\xff\xff\xff\xff"),
    *(b"\x13\0\0", b"\x13\0\x01", b"\x22\xff\xff", b"\x11\0\0\0\0", b"\x28\0", b"\x7f", b"\x21"),
    *(bytes((kind,)) + mqtt.text("x") for kind in (0x12, 0x1C, 0x15, 0x1A, 0x1F)),
    *(b"\x1f" + mqtt.text("\ud800"), b"\x26" + mqtt.text("a") + mqtt.text("b")),
)


def _properties(random: Random) -> bytes:
    """Of a CONNACK (MQTT 5, 3.2.2.3): limits that nobody else sets."""
    found = random.choice(_LIMITS)
    return mqtt.variable(len(found)) + found


def _seeds() -> list[bytes]:
    random = Random(13)
    return [said(random) for _ in range(40)]


SEEDS = _seeds()
HOSTILE_BROKERS = {
    "cloud-broker": Way(lambda: Door(Broker), SEEDS, lambda seed: Structured(SEEDS, seed, said), batch=20, quick=200)
}
"""By name: as `doors.DOORS`."""
