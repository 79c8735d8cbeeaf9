"""Live weights for those who watch, and tares: known ones, and taking them off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from edge.bus.message import Message
from edge.bus.messages.replies import Code
from edge.bus.messages.scans import LiveWeight
from edge.bus.messages.statuses import Presence
from edge.services.presence import Presences
from edge.services.quarantine import Quarantine
from tests.edge.devices_rig import Counter, until

PRESENCE = "tg/v1/lanes/lane-1/presence"


def live(counter: Counter, lane: str = "lane-1") -> list[LiveWeight]:
    """What a lane has been sent so far; all of it at QoS 0 and not retained."""
    sent = [(body, how) for topic, body, how in counter.published if topic == f"tg/v1/lanes/{lane}/weights"]
    assert all(how == {"qos": 0} for _, how in sent)
    return [LiveWeight.model_validate(body) for body, _ in sent]


async def until_live(counter: Counter, lane: str = "lane-1", **wanted: Any) -> LiveWeight:
    """Wait for a live weight, sent from now on, whose fields are as wanted."""
    seen = len(live(counter, lane))

    def found() -> LiveWeight | None:
        fits = (one for one in live(counter, lane)[seen:] if wanted.items() <= one.model_dump().items())
        return next(fits, None)

    await until(found, f"a live weight with {wanted}")
    one = found()
    assert one is not None
    return one


async def test_what_the_scale_shows_is_sent_to_who_watches(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        assert live(counter) == []
        counter.scale.load("0.482")
        assert await counter.ask("scale.watch") == {"watching": True, "for_ms": 30_000, "device": "scale-1"}
        shown = await until_live(counter, value="0.482")
        assert (shown.unit, shown.stable, shown.reason, shown.watching) == ("kg", True, None, True)
        await counter.scale.do("motion", {"on": True})
        await until_live(counter, value=None, reason="in_motion")
        await counter.scale.do("motion", {"on": False})
        await counter.scale.do("over", {})
        await until_live(counter, value=None, reason="over")
        counter.scale.load("0.100")
        await until_live(counter, value="0.100", reason=None)
        assert live(counter, "lane-2") == []
        await counter.scale.do("silence", {"on": True})
        await until_live(counter, value=None, reason="no_answer")
        assert counter.state("scale-1")["state"] == "offline"
        await counter.scale.do("silence", {"on": False})
        await until_live(counter, value="0.100")
        assert counter.state("scale-1")["state"] == "ready"


async def test_moving_and_negative_weights_are_shown_where_the_scale_gives_them(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="sma-scp-0499") as counter:
        await counter.ready()
        counter.scale.load("1.500")
        await counter.scale.do("motion", {"on": True})
        await counter.ask("scale.watch")
        shown = await until_live(counter, value="1.500")
        assert (shown.stable, shown.reason) == (False, "in_motion")
        await counter.scale.do("motion", {"on": False})
        assert (await counter.ask("scale.tare"))["tared"] is True
        counter.scale.load("1.480")
        shown = await until_live(counter, value="-0.020")
        assert (shown.stable, shown.net, shown.reason) == (True, True, "under_zero")


async def test_lanes_that_watch_one_scale_share_one_reader(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for lane in ("lane-1", "lane-2"):
            await counter.ask("scale.watch", lane=lane)
            await counter.ask("scale.watch", {"for_ms": 20_000}, lane=lane)
        await until_live(counter, "lane-2")
        readers = [task for task in asyncio.all_tasks() if task.get_name() == "watch scale-1"]
        assert len(readers) == 1
        both = len(live(counter, "lane-2"))
        await until(lambda: len(live(counter, "lane-2")) >= both + 3, "more weights")
        assert live(counter, "lane-1")[-3:] == live(counter, "lane-2")[-3:]
        await counter.ask("scale.watch", {"for_ms": 0}, lane="lane-1")
        assert live(counter, "lane-1")[-1].reason == "not_watched"
        ended = len(live(counter, "lane-1"))
        await until_live(counter, "lane-2", watching=True)
        assert len(live(counter, "lane-1")) == ended


async def test_a_weighing_waits_for_one_exchange_at_most_and_is_shown(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scale.load("0.250")
        await counter.ask("scale.watch")
        for _ in range(5):
            await until_live(counter, value="0.250")
            before = counter.scale.weighings
            assert (await counter.ask("scale.weigh", lane="lane-2"))["value"] == "0.250"
            assert counter.scale.weighings - before <= 2
        await counter.scale.do("motion", {"on": True})
        weighing = asyncio.ensure_future(counter.ask("scale.weigh", lane="lane-2"))
        await until_live(counter, reason="in_motion")
        await until_live(counter, reason="in_motion")
        assert not weighing.done()
        counter.scale.load("0.300")
        await counter.scale.do("motion", {"on": False})
        assert (await weighing)["value"] == "0.300"
        await until_live(counter, value="0.300")


async def test_a_watch_ends_by_itself_or_when_its_till_goes(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.ask("scale.watch", {"for_ms": 300})
        last = await until_live(counter, watching=False)
        assert (last.value, last.reason) == (None, "not_watched")
        await until(lambda: not any(task.get_name() == "watch scale-1" for task in asyncio.all_tasks()), "the end")
        asked = counter.scale.weighings
        presences = Presences(counter.publish, Quarantine(counter.store))
        presences.watchers.append(counter.watching.presence)
        await counter.ask("scale.watch")
        await until(lambda: counter.scale.weighings > asked, "a reading")
        for payload in (b"rubbish", Presence(online=True).model_dump_json().encode()):
            presences.on_message(Message(PRESENCE, payload, 1, False, 1, None))
        await until_live(counter, watching=True)
        gone = Presence(online=False).model_dump_json().encode()
        presences.on_message(Message(PRESENCE, gone, 1, False, 1, None))
        assert live(counter)[-1].watching is False
        await until(lambda: not any(task.get_name() == "watch scale-1" for task in asyncio.all_tasks()), "the end")


async def test_a_lost_scale_ends_the_watch_and_says_so(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.ask("scale.watch")
        await until_live(counter, value="0.000")
        await counter.scale.do("cable", {"to": "pull"})
        last = await until_live(counter, watching=False)
        assert last.reason == "device_lost"
        await until(lambda: counter.state("scale-1")["state"] == "offline", "the loss")
        assert (await counter.problem("scale.watch")).code is Code.DEVICE_LOST
        await counter.scale.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scale-1")["state"] == "ready", "the return")
        await counter.ask("scale.watch")
        await until_live(counter, value="0.000")


async def test_a_scale_that_gives_each_weight_once_cannot_be_watched(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="adam-azextra") as counter:
        await until(lambda: counter.registry.all("scale")[0].is_open, "an open port")
        problem = await counter.problem("scale.watch")
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "unsupported")
        assert counter.state("scale-1")["state"] == "unknown"  # an open port is no proof of a scale
        counter.scale.load("0.482")
        assert (await counter.ask("scale.weigh"))["value"] == "0.482"
        problem = await counter.problem("scale.weigh", deadline_s=0.5)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "unchanged")
        assert counter.state("scale-1")["state"] == "ready"


async def test_a_known_tare_and_taking_it_off(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scale.load("0.500")
        assert await counter.ask("scale.tare", {"value": "0.125", "unit": "kg"}) == {
            "tared": True,
            "device": "scale-1",
        }
        weight = await counter.ask("scale.weigh")
        assert (weight["value"], weight["net"]) == ("0.375", True)
        for parameters in ({"value": "1.25", "unit": "lb"}, {"value": "0.1255", "unit": "kg"}):
            assert (await counter.problem("scale.tare", parameters)).code is Code.BAD_MESSAGE
        assert await counter.ask("scale.tare", {"clear": True}) == {"tared": False, "device": "scale-1"}
        weight = await counter.ask("scale.weigh")
        assert (weight["value"], weight["net"]) == ("0.500", False)


async def test_a_scale_without_a_known_tare_says_so(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="kern") as counter:
        await counter.ready()
        for parameters in ({"value": "0.125", "unit": "kg"}, {"clear": True}):
            problem = await counter.problem("scale.tare", parameters)
            assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "unsupported")
        counter.scale.load("0.500")
        assert (await counter.ask("scale.tare"))["tared"] is True
        weight = await counter.ask("scale.weigh")
        assert (weight["value"], weight["net"]) == ("0.000", None)
