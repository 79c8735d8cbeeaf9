"""Whatever the network, HQ, edge and the bridge's own ends do: edge gets the gap-free sequence, and it gets all of it.

HQ here is written from docs/hq.md ("What a store missed"), not from HQ's code: numbered streams whose epochs rise, an
offer and a window for a question, obsolete messages passed over by telling so. The network loses, doubles and reorders.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud_bridge import down_stream, downlink
from cloud_bridge.cursors import Cursors
from cloud_bridge.downlink import Downlink
from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.messages.links import Committed, Need

STORE, STREAM = "s1", "commands"
WITHIN_S = 60.0


@dataclass(eq=False)
class Wire:
    """The connection of one message, as far as its acknowledgement goes."""

    acknowledged: Callable[[], None]
    lost: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def write(self, _: bytes) -> None:
        self.acknowledged()


class World:
    """HQ, the network, edge, and the bridge's downlink between them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "bridge.db"
        # HQ
        self.epoch, self.last, self.obsolete = 1, 0, 0
        self.hq_there = True
        self.window = 4
        self.needs: list[Need] = []
        # the network to the store
        self.queue: list[tuple[str, bytes]] = []
        self.wires: list[Wire] = []
        # edge: what it got for the first time, in order, per epoch; what it has on disk
        self.got: dict[str, list[int]] = {}
        self.on_disk: set[tuple[str, int]] = set()
        self.unanswered: list[tuple[str, int]] = []
        self.edge_answers = True
        self.passed_over: set[tuple[str, int]] = set()
        self.taken: list[bytes] = []
        self.wrong: list[str] = []

    # -- lives of the bridge -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self.cursors = await Cursors.open(self.file)
        self.line = Downlink(
            store=STORE, groups=("g",), cursors=self.cursors, forward=self.forward, ask=self.needs.append
        )
        await self.line.load()
        for epoch, seq in (await self.cursors.positions()).values():
            for number in range(1, seq + 1):
                if (epoch, number) not in self.on_disk | self.passed_over:
                    self.wrong.append(f"the position {seq} of {epoch} is past {number}, which edge has not")
        self.task = asyncio.create_task(self.line.run())
        self.line.ask_now()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            raise self.task.exception() or AssertionError("the downlink ended")
        self.cut_line()
        await self.cursors.close()

    def cut_line(self) -> None:
        """What is on the line is lost, and so is what was not acknowledged."""
        self.queue.clear()
        for wire in self.wires:
            if not wire.lost.done():
                wire.lost.set_result(None)
        self.wires.clear()

    # -- HQ ------------------------------------------------------------------------------------------------------------

    def name(self, epoch: int | None = None) -> str:
        return f"0190-{epoch or self.epoch:04d}"

    def message(self, seq: int) -> tuple[str, bytes]:
        header = {"stream": STREAM, "epoch": self.name(), "seq": seq}
        return topics.down(STORE, STREAM), frame.pack(header, b"%d" % seq)

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.last += 1
            self.queue.append(self.message(self.last))

    def new_epoch(self) -> None:
        self.epoch, self.last, self.obsolete = self.epoch + 1, 0, 0

    def answer_needs(self) -> None:
        for need in self.needs:
            if not self.hq_there or self.last == 0:
                continue
            have = need.have.get(STREAM)
            after = have.seq if have is not None and have.epoch == self.name() else 0
            first = max(after, self.obsolete) + 1
            until = min(self.last, first + self.window - 1)
            offered = {"epoch": self.name(), "first": first, "until": until, "last": self.last}
            self.passed_over |= {(self.name(), seq) for seq in range(1, self.obsolete + 1)}
            offer = b'{"ask":"%s","streams":{"commands":%s}}' % (
                need.ask.encode(),
                str(offered).replace("'", '"').encode(),
            )
            self.queue.append((topics.down_offer(STORE), offer))
            self.queue += [self.message(seq) for seq in range(first, until + 1)]
        self.needs.clear()

    # -- network and edge ----------------------------------------------------------------------------------------------

    def deliver(self, place: int = 0, *, keep: bool = False) -> None:
        if not self.queue:
            return
        place %= len(self.queue)
        topic, payload = self.queue[place] if keep else self.queue.pop(place)
        payload = bytes(bytearray(payload))  # an object of its own, to be known again when it is handed to edge
        wire = Wire(lambda: self.acknowledged(payload))
        self.wires.append(wire)
        self.line.on_down(Message(topic, payload, 1, False, 1, wire))  # type: ignore[arg-type]

    def acknowledged(self, payload: bytes) -> None:
        if not any(payload is one for one in self.taken):
            return  # not taken: HQ sends it again when it is wanted
        header, _ = frame.unpack(payload)
        stream = self.line.streams[STREAM]
        if header["epoch"] == stream.epoch and (header["epoch"], header["seq"]) not in self.on_disk:
            self.wrong.append(f"{header['seq']} is acknowledged before edge has it")

    def forward(self, stream: str, payload: bytes) -> None:
        self.taken.append(payload)
        header, body = frame.unpack(payload)
        epoch, seq = header["epoch"], header["seq"]
        if (stream, body) != (STREAM, b"%d" % seq):
            self.wrong.append(f"{seq} was changed on the way")
        got = self.got.setdefault(epoch, [])
        if seq not in got:
            missing = [n for n in range(1, seq) if n not in got and (epoch, n) not in self.passed_over]
            if missing or (got and seq < got[-1]):
                self.wrong.append(f"edge got {seq} of {epoch} after {got}")
            got.append(seq)
        self.unanswered.append((epoch, seq))
        if self.edge_answers:
            self.edge_commits(0)

    def edge_commits(self, place: int) -> None:
        if self.unanswered:
            epoch, seq = self.unanswered.pop(place % len(self.unanswered))
            self.on_disk.add((epoch, seq))
            answer = Committed(stream=STREAM, epoch=epoch, seq=seq, ok=seq % 5 != 0).model_dump_json().encode()
            self.line.on_committed(Message(topics.BRIDGE_COMMITTED, answer, 0, False, 0, None))

    # -- what may happen -----------------------------------------------------------------------------------------------

    async def do(self, what: str, number: int) -> None:
        match what:
            case "publish":
                self.publish(1 + number % 12)
            case "deliver":
                for _ in range(1 + number % 8):
                    self.deliver()
            case "reorder":
                self.deliver(number)
            case "double":
                self.deliver(number, keep=True)
            case "lose":
                del self.queue[: 1 + number % 3]
            case "cut":
                self.cut_line()
                self.line.ask_now()
            case "restart":
                await self.stop()
                await self.start()
            case "edge":
                self.edge_answers = not self.edge_answers
            case "commit":
                self.edge_commits(number)
            case "hq":
                self.hq_there = not self.hq_there
            case "answer":
                self.answer_needs()
            case "obsolete":
                self.obsolete = min(self.last, self.obsolete + number % 7)
            case "epoch":
                self.new_epoch()
            case _:
                await asyncio.sleep(0.002)
        await asyncio.sleep(0)

    async def calm_down(self) -> None:
        """From now on everything works, on the connection that there is; until edge has all that there is."""
        self.hq_there = self.edge_answers = True
        self.publish(1)
        async with asyncio.timeout(WITHIN_S):
            while (await self.cursors.positions()).get(STREAM) != (self.name(), self.last):
                while self.unanswered:
                    self.edge_commits(0)
                self.answer_needs()
                while self.queue:
                    self.deliver()
                await asyncio.sleep(0.001)


KINDS = (
    "publish", "deliver", "deliver", "reorder", "double", "lose", "cut", "restart", "edge", "commit", "hq", "answer",
    "answer", "obsolete", "epoch", "wait",
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 40)), max_size=60)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink, "ASK_EVERY_S", 0.001)
    monkeypatch.setattr(downlink, "ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(downlink, "ASK_AGAIN_TO_S", 0.04)
    monkeypatch.setattr(downlink, "AGAIN_AFTER_S", 0.005)
    monkeypatch.setattr(downlink, "AGAIN_TO_S", 0.02)
    monkeypatch.setattr(downlink, "RECEIVE_MAXIMUM", 4)
    monkeypatch.setattr(down_stream, "PENDING_MAXIMUM", 8)


@pytest.mark.usefixtures("hasty")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
@example([("publish", 11), ("answer", 0), ("deliver", 3), ("restart", 0), ("obsolete", 5), ("answer", 0), ("lose", 1)])
@example([("edge", 0), ("publish", 11), ("deliver", 7), ("deliver", 7), ("epoch", 0), ("publish", 3), ("deliver", 7)])
@example([("hq", 0), ("publish", 9), ("lose", 2), ("deliver", 7), ("wait", 0), ("cut", 0), ("double", 3)])
@example([("edge", 0), ("publish", 5), ("deliver", 7), ("wait", 0), ("commit", 0), ("wait", 0), ("restart", 0)])
@example([("publish", 3), ("epoch", 0), ("publish", 3), ("reorder", 4), ("deliver", 3), ("wait", 0)])
def test_whatever_happens_edge_gets_everything_in_order(steps: list[tuple[str, int]]) -> None:
    async def live() -> World:
        with tempfile.TemporaryDirectory(prefix="tillgate-down-") as folder:
            world = World(Path(folder))
            await world.start()
            try:
                for what, number in steps:
                    await world.do(what, number)
                await world.calm_down()
            finally:
                await world.stop()
            return world

    world = asyncio.run(live())
    assert world.wrong == []
    everything = set(range(1, world.last + 1))
    passed = {seq for epoch, seq in world.passed_over if epoch == world.name()}
    assert set(world.got.get(world.name(), [])) | passed >= everything
