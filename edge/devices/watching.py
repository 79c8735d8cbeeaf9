"""Live weights: what a scale shows, for the tills that have asked to watch it.

Strategy: one reader per watched scale, however many lanes watch. It asks about five times a second, each time in the
scale's common turn, so that a weighing waits for one exchange at most; while a weighing goes on, its own answers are
shown. A watch ends when its time is over, when its lane ends it or goes offline, or when the scale is lost; the last
message of a watch says so. Live weights are to be looked at and never to be sold by: that is what `scale.weigh` is for.

Source: design page "The local bus" (lanes/{lane}/weights: QoS 0, only while the till has asked to watch).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from drivers.errors import DeviceLost, Garbled, NotReady
from drivers.events import ScaleStatus, Weight
from drivers.scales.scale_driver import Scale
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.errors import BusFull
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import ScaleWatch
from edge.bus.messages.scans import LiveWeight
from edge.devices.attached import Attached
from edge.devices.registry import Registry
from edge.services.requests import Asked, Handler

log = logging.getLogger(__name__)

READ_EVERY_S = 0.2


@dataclass(slots=True, eq=False)
class _Watch:
    """One scale that is watched. `lanes`: until when each watches, in the event loop's time."""

    device: Attached
    scale: Scale
    lanes: dict[str, float] = field(default_factory=dict)
    begun: bool = False


class Watching:
    """Serves `scale.watch`. `turn` gives the lock that all who ask one scale share (`Weighing.turn`)."""

    def __init__(
        self, registry: Registry, publish: Callable[..., None], turn: Callable[[Attached], asyncio.Lock]
    ) -> None:
        self._registry = registry
        self._publish = publish
        self._turn = turn
        self._watches: dict[str, _Watch] = {}
        self._news = asyncio.Event()

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask."""
        return {"scale.watch": self._scale_watch}

    def presence(self, lane: str, online: bool) -> None:
        """A till has come or gone: nobody watches for one that has gone."""
        if not online:
            for watch in self._watches.values():
                self._leave(watch, lane)

    async def _scale_watch(self, asked: Asked, parameters: ScaleWatch) -> dict[str, Any]:
        """``{"watching": true}`` when live weights follow, ``false`` when the watch is ended."""
        device = self._registry.find(asked.lane, "scale", parameters.device)
        watch = self._watches.get(device.id)
        if parameters.for_ms == 0:
            if watch is not None:
                self._leave(watch, asked.lane)
            return {"watching": False, "device": device.id}
        self._registry.device_for(asked.lane, "scale", device.id, parameters.lease)
        if watch is None:
            watch = self._watches[device.id] = _Watch(device, _watchable(device))
        watch.lanes[asked.lane] = asyncio.get_running_loop().time() + parameters.for_ms / 1000
        self._news.set()
        return {"watching": True, "for_ms": parameters.for_ms, "device": device.id}

    async def run(self) -> NoReturn:
        """Read the scales that are watched, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._news.wait()
                self._news.clear()
                for watch in self._watches.values():
                    if not watch.begun:
                        watch.begun = True
                        group.create_task(self._read_on(watch), name=f"watch {watch.device.id}")
        raise AssertionError("unreachable")

    async def _read_on(self, watch: _Watch) -> None:
        """Read until nobody watches any more, or the scale is lost."""
        loop, device = asyncio.get_running_loop(), watch.device
        watch.scale.on_answer = partial(self._seen, watch)
        try:
            while self._is_watched(watch):
                next_s = loop.time() + READ_EVERY_S
                try:
                    async with self._turn(device):
                        await watch.scale.read()
                except (NotReady, Garbled) as error:
                    self._registry.refuses(device, error)
                    self._tell(watch, LiveWeight(reason=error.reason, read_at=now_utc(), device=device.id))
                await asyncio.sleep(next_s - loop.time())
        except DeviceLost:
            log.info("%s is watched no more: it is lost", device.id)
        finally:
            for lane in tuple(watch.lanes):  # none, but for a loss or a bug
                self._leave(watch, lane, "device_lost")
            watch.scale.on_answer = None
            self._watches.pop(device.id, None)

    def _is_watched(self, watch: _Watch) -> bool:
        now = asyncio.get_running_loop().time()
        for lane, until_s in tuple(watch.lanes.items()):
            if until_s <= now:
                self._leave(watch, lane)
            elif not self._registry.may_use(lane, watch.device):
                self._leave(watch, lane, "leased")
        return bool(watch.lanes)

    def _leave(self, watch: _Watch, lane: str, reason: str = "not_watched") -> None:
        if watch.lanes.pop(lane, None) is not None:
            self._say(lane, LiveWeight(reason=reason, watching=False, read_at=now_utc(), device=watch.device.id))

    def _seen(self, watch: _Watch, answer: Weight | ScaleStatus) -> None:
        self._tell(watch, _live(watch, answer))

    def _tell(self, watch: _Watch, live: LiveWeight) -> None:
        for lane in watch.lanes:
            self._say(lane, live)

    def _say(self, lane: str, live: LiveWeight) -> None:
        try:
            self._publish(topics.lane_weights(lane), live.model_dump_json().encode(), qos=0)
        except BusFull as error:
            log.debug("a live weight for lane %s is left out: %s", lane, error)


def _watchable(device: Attached) -> Scale:
    """The scale of `device`, if it can be watched now; ProblemError otherwise."""
    scale = device.scale
    if scale is None:
        raise TypeError(f"{device.id} is driven by {type(device.driver).__name__}, which has no scale")
    if not scale.protocol.probed:
        raise ProblemError(
            Code.NOT_READY,
            f"unsupported: {device.id} gives each weight once, to whoever asks first; it can be weighed, not watched",
        )
    if not device.is_open:
        raise ProblemError(Code.DEVICE_LOST, f"{device.id} is not connected; it is tried again by itself")
    return scale


def _live(watch: _Watch, answer: Weight | ScaleStatus) -> LiveWeight:
    """What a till shows of an answer, and why it cannot be sold by."""
    device = watch.device.id
    if isinstance(answer, ScaleStatus):
        return LiveWeight(reason=answer.reason or "no_weight", read_at=now_utc(), device=device)
    reason = None
    if answer.value.startswith("-"):
        reason = "under_zero"
    elif not answer.stable and watch.scale.protocol.tells_motion:
        reason = "in_motion"
    return LiveWeight(
        value=answer.value,
        unit=answer.unit,
        stable=answer.stable,
        net=answer.net,
        tare=answer.tare,
        reason=reason,
        read_at=now_utc(),
        device=device,
    )
