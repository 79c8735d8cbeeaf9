"""The relay that meddles with acknowledgements: bytes as MQTT 5.0 writes them, between two sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.acks import AckRelay, NotMqtt, Packets

WITHIN_S = 30.0
PUBLISH = bytes([0x32, 7, 0, 1, ord("t"), 0, 9, 0, ord("x")])  # QoS 1, topic t, id 9, no properties, x
LONG = bytes([0x32, 0x80 | 0x48, 0x01]) + bytes(200)  # a remaining length of two bytes: 0x48 + 1 * 128


def puback(id_: int) -> bytes:
    return bytes([0x40, 2, id_ >> 8, id_ & 0xFF])


def test_packets_are_cut_out_wherever_the_stream_is_split() -> None:
    stream = PUBLISH + puback(1) + LONG + bytes([0xC0, 0]) + puback(300)
    expected = [PUBLISH, puback(1), LONG, bytes([0xC0, 0]), puback(300)]
    for size in (1, 2, 3, 7, len(stream)):
        packets = Packets()
        found = [one for start in range(0, len(stream), size) for one in packets.feed(stream[start : start + size])]
        assert found == expected


def test_a_length_of_five_bytes_is_no_mqtt() -> None:
    with pytest.raises(NotMqtt):
        Packets().feed(bytes([0x30, 0x80, 0x80, 0x80, 0x80, 0x01]))


class Ends:
    """Both ends of a connection through the relay."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AckRelay]:
        server = await asyncio.start_server(lambda *ends: self.accepted.put_nowait(ends), "127.0.0.1", 0)
        async with AckRelay(server.sockets[0].getsockname()[1]).running() as relay:
            self.bridge_reads, self.bridge_writes = await asyncio.open_connection("127.0.0.1", relay.port)
            self.broker_reads, self.broker_writes = await asyncio.wait_for(self.accepted.get(), WITHIN_S)
            yield relay
            self.bridge_writes.close()
            self.broker_writes.close()
        server.close()

    async def bridge_hears(self, expected: bytes) -> bool:
        return await asyncio.wait_for(self.bridge_reads.readexactly(len(expected)), WITHIN_S) == expected

    async def broker_hears(self, expected: bytes) -> bool:
        return await asyncio.wait_for(self.broker_reads.readexactly(len(expected)), WITHIN_S) == expected


async def test_without_meddling_everything_passes() -> None:
    ends = Ends()
    async with ends.open() as relay:
        ends.bridge_writes.write(PUBLISH + LONG + puback(4))
        assert await ends.broker_hears(PUBLISH + LONG + puback(4))
        ends.broker_writes.write(puback(9) + PUBLISH)
        assert await ends.bridge_hears(puback(9) + PUBLISH)
        assert (relay.down.passed, relay.up.passed) == (1, 1)


async def test_acknowledgements_are_lost_as_many_as_asked_and_nothing_else() -> None:
    ends = Ends()
    async with ends.open() as relay:
        relay.down.to_drop = 2
        ends.broker_writes.write(puback(1) + PUBLISH + puback(2) + puback(3))
        assert await ends.bridge_hears(PUBLISH + puback(3))
        assert relay.down.dropped == 2


async def test_acknowledgements_are_held_while_the_rest_passes_and_come_late_in_order() -> None:
    ends = Ends()
    async with ends.open() as relay:
        relay.up.holding = True
        ends.bridge_writes.write(puback(1) + PUBLISH + puback(2))
        assert await ends.broker_hears(PUBLISH)
        while relay.up.held < 2:
            await asyncio.sleep(0.01)
        relay.up.release()
        assert await ends.broker_hears(puback(1) + puback(2))


async def test_acknowledgements_are_doubled() -> None:
    ends = Ends()
    async with ends.open() as relay:
        relay.down.to_repeat = 1
        ends.broker_writes.write(puback(1) + puback(2))
        assert await ends.bridge_hears(puback(1) + puback(1) + puback(2))
        assert relay.down.repeated == 1


async def test_an_end_is_passed_on() -> None:
    ends = Ends()
    async with ends.open():
        ends.bridge_writes.close()
        assert await asyncio.wait_for(ends.broker_reads.read(), WITHIN_S) == b""
