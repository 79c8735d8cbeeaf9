"""A shared device can be had for one lane alone; whoever has lost it since is refused; nobody keeps it for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge.bus.messages.replies import Code
from edge.journal.clock import Clock
from tests.edge.devices_rig import Counter, receipt, until

SCALE = {"device": "scale-1"}


async def claimed(counter: Counter, lane: str, **parameters: Any) -> int:
    answer = await counter.ask("device.claim", {"device": "scale-1", "for_ms": 60_000, **parameters}, lane=lane)
    assert 0 < answer["expires_in_ms"] <= 600_000
    token: int = answer["lease"]
    return token


async def weighs(counter: Counter, lane: str, **parameters: Any) -> str:
    value: str = (await counter.ask("scale.weigh", {**SCALE, **parameters}, lane=lane))["value"]
    return value


async def on_plate(counter: Counter) -> None:
    await counter.ready()
    await counter.scale.do("load", {"kg": "0.500"})


async def test_a_deadline_in_mid_commit_leaves_no_lease_that_nobody_knows(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        with counter.disk_busy(), pytest.raises(TimeoutError):
            await counter.ask("device.claim", {"device": "scale-1", "for_ms": 60_000}, deadline_s=0.2)
        await until(lambda: (counter.state("scale-1")["lease"] or {}).get("lane") == "lane-1", "the lease")
        problem = await counter.problem("device.claim", {"device": "scale-1"}, lane="lane-2")
        assert (problem.code, problem.detail[:20]) == (Code.NOT_READY, "leased: lane lane-1 ")


async def test_a_leased_device_serves_its_holder_alone(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        assert await weighs(counter, "lane-2") == "0.500", "nobody has it: it serves whoever asks"
        token = await claimed(counter, "lane-1")
        shown = counter.state("scale-1")["lease"]
        assert shown["lane"] == "lane-1"
        assert shown["until"] > counter.clock.now().wall
        problem = await counter.problem("scale.weigh", SCALE, lane="lane-2")
        assert problem.code is Code.NOT_READY
        assert problem.detail.startswith("leased: lane lane-1 has scale-1")
        assert problem.retry_after_ms is not None
        assert 0 < problem.retry_after_ms <= 60_000
        assert await weighs(counter, "lane-1") == "0.500", "the holder need not show its token"
        assert await weighs(counter, "lane-1", lease=token) == "0.500"
        printed = await counter.ask("print", receipt("while the scale is leased"), lane="lane-2")
        assert printed["state"] == "printed", "another device is nobody's business"
        assert await claimed(counter, "lane-1", lease=token) == token, "claiming again goes on with the same token"

        assert (await counter.problem("device.release", SCALE, lane="lane-2")).code is Code.NOT_YOURS
        assert (await counter.ask("device.release", SCALE))["released"] is True
        assert (await counter.ask("device.release", SCALE))["released"] is False
        assert counter.state("scale-1")["lease"] is None
        assert await weighs(counter, "lane-2") == "0.500"
        assert (await counter.problem("scale.weigh", {**SCALE, "lease": token})).code is Code.EXPIRED


async def test_whoever_has_lost_a_device_since_is_refused(tmp_path: Path) -> None:
    """Fencing: also for the same lane, whose other program may have claimed it meanwhile."""
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        first = await claimed(counter, "lane-1")
        await counter.ask("device.release", SCALE)
        second = await claimed(counter, "lane-1")
        assert second > first
        for operation in ("scale.weigh", "scale.zero", "scale.tare", "device.claim", "device.release"):
            problem = await counter.problem(operation, {**SCALE, "lease": first})
            assert problem.code is Code.EXPIRED, operation
        assert (await counter.problem("print", receipt("old") | {"lease": first})).code is Code.EXPIRED
        assert await weighs(counter, "lane-1", lease=second) == "0.500"


async def test_a_supervisor_takes_a_device_over_and_that_is_recorded(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        mine = await claimed(counter, "lane-1")
        for missing in ({"reason": "it hangs"}, {"operator_id": "sup-3"}, {"operator_id": "sup-3", "reason": " "}):
            wish = {**SCALE, "takeover": True, **missing}
            assert (await counter.problem("device.claim", wish, lane="lane-2")).code is Code.BAD_MESSAGE
        assert (await counter.problem("device.claim", SCALE, lane="lane-2")).code is Code.NOT_READY
        wish = {"takeover": True, "operator_id": "sup-3", "reason": "till 1 hangs"}
        theirs = await claimed(counter, "lane-2", **wish)
        assert theirs > mine
        (fact,) = await counter.until_facts("tillgate.device.taken_over.v1", 1)
        assert fact == {
            "device": "scale-1",
            "category": "scale",
            "lane": "lane-2",
            "from_lane": "lane-1",
            "operator_id": "sup-3",
            "operator_verified": False,
            "reason": "till 1 hangs",
            "lease": theirs,
        }
        assert (await counter.problem("scale.weigh", SCALE)).code is Code.NOT_READY
        assert await weighs(counter, "lane-2", lease=theirs) == "0.500"
        assert await claimed(counter, "lane-2", **wish) == theirs, "said twice, it happened once"
        await counter.until_facts("tillgate.device.taken_over.v1", 1)


async def test_who_watches_a_scale_stops_when_another_lane_leases_it(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        await counter.ask("scale.watch", SCALE, lane="lane-2")
        await claimed(counter, "lane-1")

        def last() -> dict[str, Any]:
            sent = [payload for topic, payload, _ in counter.published if topic == "tg/v1/lanes/lane-2/weights"]
            return sent[-1] if sent else {}

        await until(lambda: last().get("watching") is False, "the end of the watch")
        assert last()["reason"] == "leased"
        assert (await counter.problem("scale.watch", SCALE, lane="lane-2")).code is Code.NOT_READY
        assert (await counter.ask("scale.watch", {**SCALE, "for_ms": 0}, lane="lane-2"))["watching"] is False
        assert (await counter.ask("scale.watch", SCALE, lane="lane-1"))["watching"] is True


async def test_the_scans_of_a_leased_scanner_go_to_whoever_has_it(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()

        async def scanned_at() -> str:
            before = len(counter.published)
            counter.scanner.scan("4006381333931")
            lanes: list[str] = []

            def found() -> list[str]:
                lanes[:] = [topic for topic, _, _ in counter.published[before:] if topic.endswith("/scans")]
                return lanes

            await until(found, "the scan")
            return lanes[0].split("/")[3]

        assert await scanned_at() == "lane-1"
        await counter.ask("device.claim", {"device": "scanner-1"}, lane="lane-2")
        assert await scanned_at() == "lane-2"
        await counter.stop()
        await counter.start()
        await counter.ready()
        assert await scanned_at() == "lane-2", "also after a restart"
        await counter.ask("device.release", {"device": "scanner-1"}, lane="lane-2")
        assert await scanned_at() == "lane-1"


async def test_a_lease_runs_out(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        device = counter.registry.all("scale")[0]
        lease = await counter.leases.claim(device, "lane-1", 50)
        await until(lambda: counter.state("scale-1")["lease"] is None, "the end of the lease")
        assert await weighs(counter, "lane-2") == "0.500"
        assert (await counter.problem("scale.weigh", {**SCALE, "lease": lease.token})).code is Code.EXPIRED
        assert await claimed(counter, "lane-2") > lease.token


async def test_a_till_that_stays_away_loses_its_lease(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        await claimed(counter, "lane-1")
        counter.leases.present("lane-1", online=False)
        counter.leases.present("lane-1", online=True)  # a hiccup: it is back at once
        counter.leases.present("lane-2", online=False)  # somebody else
        await claimed(counter, "lane-1")
        counter.leases.present("lane-1", online=False)
        await until(lambda: counter.leases.of("scale-1") is None, "the end of the lease")
        await claimed(counter, "lane-2")


async def test_a_lease_survives_a_restart_and_ends_with_a_reboot(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await on_plate(counter)
        token = await claimed(counter, "lane-1")
        await counter.stop()
        await counter.start()
        await counter.ready()
        assert counter.state("scale-1")["lease"]["lane"] == "lane-1"
        assert (await counter.problem("scale.weigh", SCALE, lane="lane-2")).code is Code.NOT_READY
        assert await claimed(counter, "lane-1", lease=token) == token

        await counter.stop()
        await counter.start(Clock(boot="the-next-boot"))
        await counter.ready()
        assert counter.state("scale-1")["lease"] is None
        assert (await counter.problem("scale.weigh", {**SCALE, "lease": token})).code is Code.EXPIRED
        assert await claimed(counter, "lane-2") > token, "a token never comes again"


async def test_a_lease_given_up_stays_given_up_after_a_restart(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        token = await claimed(counter, "lane-1")
        counter.leases.present("lane-1", online=False)
        await until(lambda: counter.leases.of("scale-1") is None, "the end of the lease")
        await counter.store.write([])
        await counter.stop()
        await counter.start()
        assert counter.leases.of("scale-1") is None
        assert await claimed(counter, "lane-1") > token


async def test_of_many_lanes_that_claim_at_once_one_gets_it(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        wish = {"device": "printer-1", "for_ms": 60_000}
        asked = [counter.ask("device.claim", wish, lane=lane) for lane in ("lane-1", "lane-2") * 3]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        given = [answer for answer in answers if isinstance(answer, dict)]
        assert len(given) == 3, "one lane, three times the same lease"
        assert len({answer["lease"] for answer in given}) == 1


@pytest.mark.parametrize(
    ("parameters", "lane", "code"),
    [
        ({"device": "scale-9"}, "lane-1", Code.NOT_FOUND),
        ({"device": "drawer-1"}, "lane-2", Code.NOT_YOURS),
    ],
)
async def test_only_a_device_of_its_own_can_be_claimed(
    tmp_path: Path, parameters: dict[str, Any], lane: str, code: Code
) -> None:
    async with Counter(tmp_path) as counter:
        assert (await counter.problem("device.claim", parameters, lane=lane)).code is code
        assert (await counter.problem("device.release", parameters, lane=lane)).code is code


async def test_a_takeover_that_cannot_be_recorded_does_not_happen(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        token = await claimed(counter, "lane-1")
        counter.free_bytes = 0
        wish = {**SCALE, "takeover": True, "operator_id": "sup-3", "reason": "till 1 hangs"}
        assert (await counter.problem("device.claim", wish, lane="lane-2")).code is Code.STORAGE_FULL
        holder = counter.leases.of("scale-1")
        assert holder is not None
        assert (holder.lane, holder.token) == ("lane-1", token)


async def test_a_device_can_be_bound_to_other_lanes_while_it_runs(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await claimed(counter, "lane-1")
        counter.registry.bind("scale-1", ("lane-2",))
        assert counter.state("scale-1")["lanes"] == ["lane-2"]
        assert counter.leases.of("scale-1") is None, "who may not use it any more does not keep it"
        assert (await counter.problem("scale.weigh", SCALE)).code is Code.NOT_YOURS
        await counter.scale.do("load", {"kg": "0.250"})
        assert await weighs(counter, "lane-2") == "0.250"
        counter.registry.bind("scanner-1", ("lane-2", "lane-1"))
        counter.scanner.scan("4006381333931")
        await until(lambda: [topic for topic, _, _ in counter.published if topic.endswith("lane-2/scans")], "a scan")
