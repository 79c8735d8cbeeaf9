"""HQ to store: in order, without a gap, byte for byte, acknowledged only after edge has committed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete

from cloud_bridge import down_stream, downlink
from cloud_bridge.cursors import Cursors
from cloud_bridge.downlink import Downlink
from cloud_bridge.hq.downlog import WINDOW, Downlog, Make, group_scope, store_scope
from cloud_bridge.hq.schema import downlink_log
from edge.bus import envelope, frame, topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.links import Committed, Need, Offer, Offered, StreamPosition
from edge.supervisor import keep_running
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, Mosquitto, a_bridge, a_receiver, until

OLD, NEW = "0190aaaa-0000", "0191bbbb-0000"


def made(text: str) -> Make:
    return lambda epoch, seq: frame.pack(
        {"stream": "prices", "epoch": epoch, "seq": seq, "kind": "chunk"}, text.encode()
    )


def down(seq: int, *, epoch: str = OLD, **more: object) -> bytes:
    return frame.pack({"stream": "prices", "epoch": epoch, "seq": seq, **more}, f"body {seq}".encode())


async def test_price_messages_reach_edge_byte_for_byte(hq: Engine, cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port)
    log = Downlog(hq)
    kept = log.append(store_scope(STORE), "prices", [made(f"one {n}") for n in range(5)])
    async with a_receiver(hq, cloud.port), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: len(edge.downs) == 5)  # what was published while the store was away
        more = log.append(store_scope(STORE), "prices", [made(f"two {n}") for n in range(3)])
        sender = Client(Address(host="127.0.0.1", port=cloud.port), client_id="sender")
        async with sender:
            for _, payload in more:
                await sender.publish(topics.down(STORE, "prices"), payload)
        await until(lambda: len(edge.downs) == 8)
        assert edge.downs == [payload for _, payload in kept + more]


async def test_a_gap_is_filled_from_hqs_log(hq_file: Engine, cloud: Mosquitto, configure: Configure) -> None:
    config = configure(cloud.port)
    log = Downlog(hq_file)
    sender = Client(Address(host="127.0.0.1", port=cloud.port), client_id="sender")
    async with sender, a_receiver(hq_file, cloud.port), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and edge.status.link == "online")
        kept = log.append(store_scope(STORE), "prices", [made(f"text {n}") for n in range(20)])
        for seq, payload in kept:
            if seq in (1, 2, 9, 20):  # all others are lost on the way
                await sender.publish(topics.down(STORE, "prices"), payload)
        await until(lambda: len(edge.downs) == 20)
        assert edge.downs == [payload for _, payload in kept]


async def test_what_edge_has_not_committed_is_not_acknowledged(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    """Edge keeps silent: the position does not move, and the next life of the bridge hands everything over again."""
    config = configure(cloud.port)
    kept = Downlog(hq_file).append(store_scope(STORE), "prices", [made(f"text {n}") for n in range(4)])
    async with a_receiver(hq_file, cloud.port), Edge(config).running() as edge:
        edge.answers = False
        async with a_bridge(config):
            await until(lambda: len(edge.downs) == 4)
            edge.answer(edge.downs[0])
            edge.answer(edge.downs[2])
            await until(lambda: _position(config.bridge_db, 1))
        edge.downs.clear()
        edge.answers = True
        async with a_bridge(config):
            await until(lambda: _position(config.bridge_db, 4))
        assert edge.downs == [payload for _, payload in kept[1:]]


async def test_a_group_stream_is_kept_apart_from_the_stores_own(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port, 'groups = ["north"]\n')
    log = Downlog(hq_file)

    def for_group(epoch: str, seq: int) -> bytes:
        return frame.pack({"stream": "prices", "group": "north", "epoch": epoch, "seq": seq}, b"for all")

    own = log.append(store_scope(STORE), "prices", [made("own")])
    shared = log.append(group_scope("north"), "prices", [for_group, for_group])
    sender = Client(Address(host="127.0.0.1", port=cloud.port), client_id="sender")
    async with sender, a_receiver(hq_file, cloud.port), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: len(edge.downs) == 3)  # its group is offered though it never heard of that stream
        assert sorted(edge.downs) == sorted([own[0][1], shared[0][1], shared[1][1]])
        assert edge.downs.index(shared[0][1]) < edge.downs.index(shared[1][1])
        more = log.append(group_scope("north"), "prices", [for_group, for_group])
        await sender.publish(topics.group_down("north", "prices"), more[1][1])  # the first is lost
        await until(lambda: len(edge.downs) == 5)
        assert edge.downs[3:] == [more[0][1], more[1][1]]


def _position(file: Path, seq: int) -> bool:
    with contextlib.closing(sqlite3.connect(file)) as db:
        return db.execute("SELECT seq FROM downlink WHERE stream = 'prices'").fetchone() == (seq,)


# -- the rules by themselves, on a real bridge.db ----------------------------------------------------------------------


class Bench:
    """A downlink with both ends in the test's hands. `acked` are the numbers of acknowledged messages."""

    def __init__(self, cursors: Cursors) -> None:
        self.cursors = cursors
        self.forwarded: list[bytes] = []
        self.needs: list[Need] = []
        self.line = Downlink(
            store=STORE,
            groups=(),
            cursors=cursors,
            forward=lambda _, payload: self.forwarded.append(payload),
            ask=self.needs.append,
        )
        self._links: list[Wire] = []

    def arrive(self, payload: bytes, *, offer: bool = False) -> Wire:
        wire = Wire()
        self._links.append(wire)
        topic = topics.down_offer(STORE) if offer else topics.down(STORE, "prices")
        # The message's link is only asked whether it is lost, and to write the acknowledgement.
        self.line.on_down(Message(topic, payload, 1, False, 7, wire))  # type: ignore[arg-type]
        return wire

    def offer(self, first: int, until: int, last: int, *, epoch: str = OLD) -> None:
        offered = Offered(epoch=epoch, first=first, until=until, last=last)
        ask = self.needs[-1].ask if self.needs else ""
        self.arrive(Offer(ask=ask, streams={"prices": offered}).model_dump_json().encode(), offer=True)

    def commit(self, seq: int, *, epoch: str = OLD, ok: bool = True) -> None:
        answer = Committed(stream="prices", epoch=epoch, seq=seq, ok=ok)
        self.line.on_committed(Message(topics.BRIDGE_COMMITTED, answer.model_dump_json().encode(), 0, False, 0, None))


class Wire:
    """The far end of one message: whether its acknowledgement was written."""

    def __init__(self) -> None:
        self.acked = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, _: bytes) -> None:
        self.acked = True


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    cursors = await Cursors.open(tmp_path / "bridge.db")
    bench = Bench(cursors)
    await bench.line.load()
    task = asyncio.create_task(keep_running("downlink", bench.line.run, expected=(sqlite3.Error,)), name="downlink")
    yield bench
    task.cancel()
    await asyncio.wait([task])
    await cursors.close()


async def test_acknowledged_after_commit_and_in_order(bench: Bench) -> None:
    first, second = bench.arrive(down(1)), bench.arrive(down(2))
    await until(lambda: len(bench.forwarded) == 2)
    bench.commit(2)
    bench.commit(2)
    await until(lambda: bench.line.streams["prices"].pending[2].done)
    assert not first.acked
    assert not second.acked
    bench.commit(1)
    await until(lambda: first.acked and second.acked)
    assert bench.line.need().have["prices"].seq == 2


async def test_a_full_disk_keeps_no_acknowledgement_back_for_ever(bench: Bench) -> None:
    first, second = bench.arrive(down(1)), bench.arrive(down(2))
    await until(lambda: len(bench.forwarded) == 2)
    await bench.cursors.db.execute("PRAGMA query_only = ON")
    bench.commit(1)
    bench.commit(2)
    await until(lambda: bench.line.streams["prices"].pending[1].done)
    assert not first.acked
    await bench.cursors.db.execute("PRAGMA query_only = OFF")
    await until(lambda: first.acked and second.acked)
    assert (await bench.cursors.positions())["prices"] == (OLD, 2)
    assert len(bench.forwarded) == 2


async def test_what_edge_refuses_for_good_is_over(bench: Bench) -> None:
    message = bench.arrive(down(1))
    await until(lambda: bench.forwarded)
    bench.commit(1, ok=False)
    await until(lambda: message.acked)


async def test_old_repeated_and_unreadable_messages_are_acknowledged_and_dropped(bench: Bench) -> None:
    bench.arrive(down(1, epoch=NEW))
    await until(lambda: bench.forwarded)
    bench.commit(1, epoch=NEW)
    await until(lambda: bench.line.streams["prices"].committed == 1)
    rubbish = [b"", b"\xff", b"TG1 {}\n", frame.pack({"stream": "a/b", "epoch": "e", "seq": 1}, b""), down(0)]
    others = [down(1, epoch=NEW), down(5, epoch=OLD), down(1, group="elsewhere")]
    for payload in rubbish + others:
        message = bench.arrive(payload)
        await until(lambda message=message: message.acked)
    assert len(bench.forwarded) == 1


async def test_a_new_epoch_starts_at_one(bench: Bench) -> None:
    bench.arrive(down(1))
    await until(lambda: bench.forwarded)
    bench.commit(1)
    await until(lambda: bench.line.streams["prices"].committed == 1)
    gone = bench.arrive(down(2))
    bench.arrive(down(1, epoch=NEW))
    await until(lambda: gone.acked)
    bench.commit(1, epoch=NEW)
    await until(lambda: bench.line.need().have["prices"].epoch == NEW and bench.line.streams["prices"].committed == 1)


async def test_behind_a_gap_nothing_is_forwarded_and_hq_is_asked(bench: Bench) -> None:
    late = bench.arrive(down(3))
    await until(lambda: bench.needs)
    assert late.acked
    assert bench.forwarded == []
    assert bench.needs[0].have["prices"].seq == 0


async def test_a_message_that_came_again_is_acknowledged_on_its_new_connection(bench: Bench) -> None:
    first = bench.arrive(down(1))
    await until(lambda: bench.forwarded)
    first.lost.set_result(None)
    again, twice = bench.arrive(down(1)), bench.arrive(down(1))
    await until(lambda: len(bench.line.streams["prices"].pending[1].messages) == 3)
    assert not again.acked
    bench.commit(1)
    await until(lambda: again.acked and twice.acked)
    assert not first.acked
    assert len(bench.forwarded) == 1


async def test_edge_that_does_not_answer_gets_it_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink, "AGAIN_AFTER_S", 0.1)
    bench.arrive(down(1))
    await until(lambda: len(bench.forwarded) >= 3)
    assert set(bench.forwarded) == {down(1)}


async def test_a_flood_is_bounded(bench: Bench) -> None:
    messages = [bench.arrive(down(seq)) for seq in range(1, 200)]
    await until(lambda: messages[-1].acked)
    assert len(bench.forwarded) == down_stream.PENDING_MAXIMUM
    assert len(bench.line.streams["prices"].pending) == down_stream.PENDING_MAXIMUM
    assert bench.needs == [], "what edge does not answer fills the cloud's window: asking is in vain"


async def test_a_window_on_its_way_is_not_asked_for_again_and_the_next_one_is_at_once(bench: Bench) -> None:
    bench.offer(first=1, until=4, last=9)
    for seq in (1, 2, 9, 3):  # 9 is published while the window comes
        bench.arrive(down(seq))
    await until(lambda: len(bench.forwarded) == 3)
    assert bench.needs == []
    bench.arrive(down(4))
    await until(lambda: bench.needs)
    assert bench.needs[0].have["prices"].seq == 4


async def test_the_uplinks_question_does_not_disturb_what_is_coming(bench: Bench) -> None:
    bench.line.ask_now()
    bench.line.ask_what_is_confirmed()
    first, second = bench.needs
    assert (first.only_confirmed, second.only_confirmed) == (False, True)
    del bench.needs[1:]
    bench.offer(first=1, until=1, last=1)
    bench.arrive(down(1))
    await until(lambda: bench.forwarded)


async def test_a_window_that_stops_coming_is_asked_for_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink, "ASK_AGAIN_S", 0.1)
    bench.offer(first=1, until=4, last=4)
    bench.arrive(down(1))
    await until(lambda: len(bench.needs) >= 2)
    assert {need.have["prices"].seq for need in bench.needs} == {1}
    assert len({need.ask for need in bench.needs}) == len(bench.needs)


async def test_what_hq_has_no_more_is_passed_over_and_the_position_kept(bench: Bench) -> None:
    first = bench.arrive(down(1))
    await until(lambda: bench.forwarded)
    bench.offer(first=8, until=9, last=9)
    bench.arrive(down(8))
    await until(lambda: len(bench.forwarded) == 2)
    bench.commit(8)
    await until(lambda: bench.line.streams["prices"].pending[8].done)
    assert bench.line.streams["prices"].committed == 0
    bench.commit(1)
    await until(lambda: first.acked and bench.line.streams["prices"].committed == 8)
    bench.offer(first=10, until=9, last=9, epoch=NEW)  # a later epoch, of which nothing is left
    await until(lambda: bench.line.streams["prices"].committed == 9)
    assert (await bench.cursors.positions())["prices"] == (NEW, 9)


async def test_an_epoch_that_hq_does_not_know_does_not_stay(bench: Bench) -> None:
    bench.arrive(down(1))
    await until(lambda: bench.forwarded)
    bench.commit(1)
    await until(lambda: bench.line.streams["prices"].committed == 1)
    bench.arrive(down(1, epoch=NEW))
    await until(lambda: bench.needs)
    bench.offer(first=1, until=2, last=2)
    bench.arrive(down(1))
    bench.arrive(down(2))
    await until(lambda: bench.forwarded[-2:] == [down(1), down(2)])


async def test_an_answer_to_an_earlier_question_is_passed_over(bench: Bench) -> None:
    bench.line.ask_now()
    bench.offer(first=9, until=9, last=9)
    await until(lambda: bench.line.streams)
    stale = Offer(ask="earlier", streams={"prices": Offered(epoch=NEW, first=1, until=1, last=1)})
    message = bench.arrive(stale.model_dump_json().encode(), offer=True)
    await until(lambda: message.acked)
    assert (bench.line.streams["prices"].epoch, bench.line.streams["prices"].committed) == (OLD, 8)


async def test_an_offer_that_is_none_changes_nothing(bench: Bench) -> None:
    for payload in (b"", b"{}", b'{"ask":"","streams":{"x:prices":{"epoch":"e","first":9,"until":9,"last":9}}}'):
        message = bench.arrive(payload, offer=True)
        await until(lambda message=message: message.acked)
    assert bench.line.streams == {}


def test_the_log_numbers_once_and_replays_from_anywhere(hq: Engine) -> None:
    log = Downlog(hq)
    first = log.append(store_scope(STORE), "prices", [made(str(n)) for n in range(3)])
    second = log.append(store_scope(STORE), "prices", [made("later")])
    assert [seq for seq, _ in first + second] == [1, 2, 3, 4]
    epoch = str(frame.unpack(first[0][1])[0]["epoch"])
    assert log.read(store_scope(STORE), "prices", 2, 10) == [first[2], second[0]]

    def missing(**have: tuple[str, int]) -> list[tuple[str, int, int, int]]:
        positions = {key: {"epoch": epoch_, "seq": seq} for key, (epoch_, seq) in have.items()}
        windows = log.windows(Need.model_validate({"store": STORE, "have": positions}))
        return [(one.stream, one.offered.first, one.offered.until, one.offered.last) for one in windows]

    assert missing() == [("prices", 1, 4, 4)]
    assert missing(prices=(epoch, 2)) == [("prices", 3, 4, 4)]
    assert missing(prices=(epoch, 4)) == [("prices", 5, 4, 4)]
    assert missing(prices=(envelope.new_id(), 4)) == [("prices", 1, 4, 4)]
    assert missing(nonsense=(epoch, 4)) == [("prices", 1, 4, 4)]
    # A store has more than the log: it was put back from a copy, and its numbers are not given a second time.
    assert missing(prices=(epoch, 7)) == [("prices", 8, 7, 7)]
    assert [seq for seq, _ in log.append(store_scope(STORE), "prices", [made("after")])] == [8]
    assert missing(prices=(epoch, 4)) == [("prices", 8, 8, 8)]


def test_one_store_cannot_use_up_the_numbers_of_its_group(hq: Engine) -> None:
    log = Downlog(hq)
    (one,) = log.append(group_scope("north"), "prices", [made("one")])
    epoch = str(frame.unpack(one[1])[0]["epoch"])
    have = {"north:prices": StreamPosition(epoch=epoch, seq=2**53)}
    (window,) = log.windows(Need(store=STORE, have=have))
    assert (window.offered.first, window.offered.until, window.offered.last) == (2, 1, 1)
    assert [seq for seq, _ in log.append(group_scope("north"), "prices", [made("two")])] == [2]


def test_a_store_is_sent_a_window_at_a_time(hq: Engine) -> None:
    log = Downlog(hq)
    log.append(store_scope(STORE), "prices", [made(str(n)) for n in range(100)])
    (window,) = log.windows(Need(store=STORE, have={}))
    assert (window.offered.first, window.offered.until, window.offered.last) == (1, WINDOW, 100)
    with hq.begin() as db:
        db.execute(delete(downlink_log).where(downlink_log.c.seq.between(40, 59)))
    have = {"prices": StreamPosition(epoch=window.offered.epoch, seq=WINDOW)}
    (window,) = log.windows(Need(store=STORE, have=have))
    assert (window.offered.first, window.offered.until, window.offered.last) == (WINDOW + 1, 39, 100)
    have = {"prices": StreamPosition(epoch=window.offered.epoch, seq=39)}
    (window,) = log.windows(Need(store=STORE, have=have))
    assert (window.offered.first, window.offered.until) == (60, 60 + WINDOW - 1)


def test_the_groups_that_a_store_names_are_offered_to_it(hq: Engine) -> None:
    log = Downlog(hq)
    for scope in (store_scope(STORE), group_scope("north"), group_scope("south")):
        log.append(scope, "notices", [made("a")])
        log.append(scope, "commands", [made("b")])
    keys = [window.key for window in log.windows(Need(store=STORE, groups=("north",), have={}))]
    assert keys == ["north:commands", "commands", "north:notices", "notices"]


async def test_a_question_that_cannot_be_one_holds_up_nobody(
    hq: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    Downlog(hq).append(store_scope(STORE), "prices", [made("a")])
    position = '{"epoch":"e","seq":1}'
    questions = [
        "",
        "{}",
        '{"store":"other","have":{}}',
        f'{{"store":"{STORE}","have":{{"a\\u0000b":{position}}}}}',
        f'{{"store":"{STORE}","ask":"a\\u0000","have":{{}}}}',
        f'{{"store":"{STORE}","have":{{"prices":{{"epoch":"a\\u0000","seq":{10**30}}}}}}}',
        f'{{"store":"{STORE}","groups":["{"g" * 65}"],"have":{{}}}}',
    ]
    stranger = Client(Address(host="127.0.0.1", port=cloud.port), client_id="stranger")
    async with a_receiver(hq, cloud.port), stranger, Edge(config).running() as edge:
        for question in questions:
            await stranger.publish(topics.up_need(STORE), question.encode())
        await stranger.publish(topics.up_need("s" * 64), f'{{"store":"{"s" * 64}","have":{{}}}}'.encode())
        await stranger.publish(f"{topics.ROOT}/{'s' * 90}/up/need", f'{{"store":"{"s" * 90}","have":{{}}}}'.encode())
        async with a_bridge(config):
            await until(lambda: len(edge.downs) == 1)


def test_of_several_receivers_one_answers(hq: Engine) -> None:
    need = Need(store=STORE, ask="a-1", have={})
    assert [Downlog(hq).claim(need) for _ in range(3)] == [True, False, False]
    assert Downlog(hq).claim(need.model_copy(update={"ask": "a-2"}))
    assert Downlog(hq).claim(need.model_copy(update={"store": "s2"}))
    assert Downlog(hq).claim(need.model_copy(update={"ask": ""})), "an older bridge names no question"
