"""The wide area network of the demo, the tests and the benchmarks: does it do to a connection what it says?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from demo.wan import Line, Wan

WITHIN_S = 30.0
SOON_S = 0.3  # long enough for the loopback to bring what would come
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """The server at the other side: keeps its connections and what they have sent."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Far]:
        server = await asyncio.start_server(lambda *streams: self.accepted.put_nowait(streams), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            while not self.accepted.empty():
                self.accepted.get_nowait()[1].close()


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    async with Far().running() as server:
        yield server


async def joined(wan: Wan, far: Far) -> tuple[Streams, Streams]:
    """A connection through the network, at both its ends."""
    near = await asyncio.open_connection("127.0.0.1", wan.port)
    return near, await asyncio.wait_for(far.accepted.get(), WITHIN_S)


async def exactly(streams: Streams, count: int) -> bytes:
    return await asyncio.wait_for(streams[0].readexactly(count), WITHIN_S)


async def hears_nothing(streams: Streams) -> bool:
    try:
        await asyncio.wait_for(streams[0].read(1), SOON_S)
    except TimeoutError:
        return True
    return False


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.01)


# -- a line, by itself -------------------------------------------------------------------------------------------------


def test_a_plain_line_brings_everything_at_once() -> None:
    line = Line()
    assert line.plain
    assert line.admit(5.0, 1_000_000) == 5.0


def test_delay_is_added_to_each_packet_and_takes_no_room() -> None:
    line = Line(delay_s=0.025)
    assert line.admit(1.0, 1_000) == pytest.approx(1.025)
    assert line.admit(1.0, 1_000) == pytest.approx(1.025)
    assert line.room_bytes(1.0) == line.queue_bytes


def test_a_bottleneck_serves_one_packet_after_the_other() -> None:
    line = Line(delay_s=0.5, bytes_per_s=1_000)
    due = [line.admit(10.0, 250) for _ in range(4)]
    assert due == pytest.approx([10.75, 11.0, 11.25, 11.5])
    assert line.admit(20.0, 1_000) == pytest.approx(21.5), "a line that was idle has saved nothing up"


def test_the_queue_before_a_bottleneck_is_bounded_and_empties() -> None:
    line = Line(bytes_per_s=1_000_000)
    line.admit(0.0, line.queue_bytes)
    assert line.room_bytes(0.0) == 0
    half = line.half_empty_at_s(0.0)
    assert line.room_bytes(half) == pytest.approx(line.queue_bytes / 2, abs=1)
    assert line.room_bytes(60.0) == line.queue_bytes


# -- a connection ------------------------------------------------------------------------------------------------------


async def test_bytes_go_both_ways_whole_and_are_counted(far: Far) -> None:
    up, down = bytes(range(256)) * 8_000, b"answer" * 1_000
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        near[1].write(up)
        there[1].write(down)
        assert await exactly(there, len(up)) == up
        assert await exactly(near, len(down)) == down
        assert (wan.up.carried_bytes, wan.down.carried_bytes) == (len(up), len(down))
        near[1].write_eof()
        assert await asyncio.wait_for(there[0].read(), WITHIN_S) == b""
        there[1].write(b"last words")
        there[1].close()
        assert await asyncio.wait_for(near[0].read(), WITHIN_S) == b"last words"
        near[1].close()
        await until(lambda: wan.connections == 0)


@pytest.mark.parametrize("shape", [{"rtt_ms": 20}, {"up_kbit": 80_000}, {"rtt_ms": 10, "up_kbit": 40_000}])
async def test_what_arrives_is_whole_and_in_order_however_the_line_is(far: Far, shape: dict[str, float]) -> None:
    sent = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    async with Wan(far.port, **shape) as wan:
        near, there = await joined(wan, far)
        near[1].write(sent)
        assert await exactly(there, len(sent)) == sent


async def test_delay_is_met_in_each_direction(far: Far) -> None:
    loop = asyncio.get_running_loop()
    async with Wan(far.port, rtt_ms=200) as wan:
        near, there = await joined(wan, far)
        for source, sink in ((near, there), (there, near)):
            start = loop.time()
            source[1].write(b"x")
            await exactly(sink, 1)
            assert loop.time() - start >= 0.1


async def test_bandwidth_is_a_limit(far: Far) -> None:
    """The one that looks at a clock: a line of 100 kB/s cannot bring 50 kB in less than half a second."""
    loop = asyncio.get_running_loop()
    async with Wan(far.port, up_kbit=800) as wan:
        near, there = await joined(wan, far)
        start = loop.time()
        near[1].write(bytes(50_000))
        await exactly(there, 50_000)
        assert loop.time() - start >= 0.499


async def test_a_slow_line_makes_the_sender_wait(far: Far) -> None:
    async with Wan(far.port, up_kbit=80) as wan:  # 10 kB/s
        near, there = await joined(wan, far)
        with socket.socket() as fast:
            fast.connect(("127.0.0.1", wan.port))
            await asyncio.wait_for(far.accepted.get(), WITHIN_S)
            fast.setblocking(False)
            fast.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
            written = 0
            for _ in range(10):  # as much as it takes, again and again
                with contextlib.suppress(BlockingIOError):
                    while written < 10 << 20:
                        written += fast.send(bytes(64 << 10))
                await asyncio.sleep(0.05)
            assert written < 2 << 20, "nobody made the sender wait"
            assert wan.waiting_bytes <= 2 * wan.up.queue_bytes
            near[1].write(b"x")  # another connection waits in the same queue, and gets through
            assert await exactly(there, 1) == b"x"


async def test_a_far_end_that_does_not_read_makes_the_sender_wait(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        there[0]._transport.pause_reading()  # type: ignore[attr-defined]
        near[1].write(bytes(64 << 20))
        quiet = -1
        while quiet != wan.up.carried_bytes:
            quiet = wan.up.carried_bytes
            await asyncio.sleep(SOON_S)
        assert quiet < 64 << 20
        assert wan.waiting_bytes < 1 << 20
        near[1].transport.abort()


# -- what happens to it ------------------------------------------------------------------------------------------------


async def test_a_cut_is_silent_and_a_connection_outlives_it(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        await wan.cut()
        near[1].write(b"up")
        there[1].write(b"down")
        assert await hears_nothing(near)
        assert await hears_nothing(there)
        await wan.restore()
        assert await exactly(there, 2) == b"up"
        assert await exactly(near, 4) == b"down"
        assert wan.cuts == 1
        assert wan.cut_s > 0


async def test_the_far_end_does_not_hear_of_a_close_during_a_cut(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        await wan.cut()
        near[1].close()
        assert await hears_nothing(there), "half-open"
        await wan.restore()
        assert await asyncio.wait_for(there[0].read(), WITHIN_S) == b""


async def test_one_direction_can_be_cut_alone(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        await wan.cut("down")
        near[1].write(b"arrives")
        there[1].write(b"does not")
        assert await exactly(there, 7) == b"arrives"
        assert await hears_nothing(near)
        assert not wan.whole


async def test_a_connection_that_is_opened_during_a_cut_hears_nothing_until_it_is_over(far: Far) -> None:
    async with Wan(far.port) as wan:
        await wan.cut()
        near = await asyncio.open_connection("127.0.0.1", wan.port)
        near[1].write(b"hello?")
        assert await hears_nothing(near)
        assert far.accepted.empty()
        await wan.restore()
        there = await asyncio.wait_for(far.accepted.get(), WITHIN_S)
        assert await exactly(there, 6) == b"hello?"
        near[1].close()


async def test_reset_is_rst_at_both_ends(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        wan.reset()
        for end in (near, there):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(end[0].read(), WITHIN_S)
        assert wan.connections == 0
        await joined(wan, far)


async def test_refuse_closes_the_port_and_restore_opens_it(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        await wan.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", wan.port)
        near[1].write(b"goes on")
        assert await exactly(there, 7) == b"goes on"
        await wan.restore()
        await joined(wan, far)


async def test_what_was_forgotten_stays_half_open_while_new_connections_work(far: Far) -> None:
    async with Wan(far.port) as wan:
        near, there = await joined(wan, far)
        wan.forget()
        near[1].write(b"lost")
        near[1].close()
        assert await hears_nothing(there)
        new, new_there = await joined(wan, far)
        new[1].write(b"!")
        assert await exactly(new_there, 1) == b"!"
        there[1].close()
        await until(lambda: wan.connections == 1)


async def test_the_probe_dies_with_a_cut(far: Far, free_port: Callable[[], int]) -> None:
    probe = free_port()
    async with Wan(far.port, probe_port=probe) as wan:
        (await asyncio.open_connection("127.0.0.1", probe))[1].close()
        await wan.cut()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", probe)
        await wan.restore()
        (await asyncio.open_connection("127.0.0.1", probe))[1].close()


async def test_a_far_end_that_is_not_there_resets_the_near_one(free_port: Callable[[], int]) -> None:
    async with Wan(free_port()) as wan:
        near = await asyncio.open_connection("127.0.0.1", wan.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(near[0].read(), WITHIN_S)


# -- as a process ------------------------------------------------------------------------------------------------------


async def test_the_process_takes_orders_counts_and_logs(far: Far, tmp_path: Path) -> None:
    control, log = tmp_path / "wan.sock", tmp_path / "wan.jsonl"
    options = ["--to", f"127.0.0.1:{far.port}", "--rtt-ms", "2", "--control", str(control), "--json-log", str(log)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.wan", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), WITHIN_S))
        orders = await asyncio.open_unix_connection(str(control))

        async def order(**what: object) -> dict[str, object]:
            orders[1].write(json.dumps(what).encode() + b"\n")
            answer: dict[str, object] = json.loads(await asyncio.wait_for(orders[0].readline(), WITHIN_S))
            return answer

        near = await asyncio.open_connection("127.0.0.1", port)
        there = await asyncio.wait_for(far.accepted.get(), WITHIN_S)
        near[1].write(b"12345")
        await exactly(there, 5)
        state = await order(do="state")
        assert (state["ok"], state["up_bytes"], state["down_bytes"], state["whole"]) == (True, 5, 0, True)
        assert not (await order(do="cut", direction="down"))["whole"]
        there[1].write(b"back")
        assert await hears_nothing(near)
        assert (await order(do="restore"))["whole"]
        assert await exactly(near, 4) == b"back"
        assert (await order(do="shape", up_kbit=8_000))["ok"]
        assert (await order(do="shape", rtt_ms=-1))["error"] == "none of rtt_ms, up_kbit, down_kbit is below 0"
        assert "there is no 'explode'" in str((await order(do="explode"))["error"])
        await order(do="reset")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(near[0].read(), WITHIN_S)
        orders[1].close()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["do"] for line in lines if "do" in line] == ["cut", "restore", "shape", "reset"]
    assert lines[-1]["end"]
    assert (lines[-1]["up_bytes"], lines[-1]["down_bytes"]) == (5, 4)
