"""The supervisor: what is lost comes back, what is a bug is told, and a cancelled part is gone."""

from __future__ import annotations

import asyncio
import logging

import pytest

from edge.supervisor import Background, Bug, Pauses, caught, keep_running
from tests.edge.bus_rig import until

QUICK = Pauses(first_s=0.01, longest_s=0.02, good_life_s=0.1)


class Work:
    """Raises what it was told to, life after life; then it runs for ever."""

    def __init__(self, *fates: BaseException | None) -> None:
        self._fates = list(fates)
        self.lives = 0
        self.cancelled = False

    async def run(self) -> None:
        self.lives += 1
        if not self._fates:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        fate = self._fates.pop(0)
        if fate is not None:
            raise fate


async def lived(work: Work, lives: int, **more: object) -> list[str]:
    """The states that were told while `work` lived so often and ran on."""
    states: list[str] = []
    keeper = asyncio.create_task(
        keep_running("the part", work.run, on_state=states.append, pauses=QUICK, **more)  # type: ignore[arg-type]
    )
    await until(lambda: work.lives == lives and (not states or states[-1] == "running"))
    keeper.cancel()
    await asyncio.wait([keeper])
    assert keeper.cancelled()
    assert work.cancelled
    return states


async def test_a_loss_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge.supervisor")
    work = Work(OSError("unplugged"), OSError("unplugged"), OSError("unplugged"))
    assert await lived(work, 4, expected=(OSError,)) == ["lost", "running"]
    assert [record.getMessage() for record in caplog.records] == [
        "the part is lost (unplugged); trying again",
        "the part is back",
    ]


async def test_a_bug_has_its_traceback_and_the_part_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(KeyError("oops"), None)
    assert await lived(work, 3, expected=(OSError,)) == ["faulted", "running"]
    assert caplog.records[0].levelno == logging.CRITICAL
    assert caplog.records[0].exc_info is not None


async def test_a_cancellation_that_nobody_asked_for_is_a_bug_and_no_end() -> None:
    assert await lived(Work(asyncio.CancelledError()), 2) == ["faulted", "running"]


async def test_a_listener_with_a_bug_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def listener(state: str) -> None:
        raise ValueError(state)

    work = Work(OSError(), KeyError())
    keeper = asyncio.create_task(
        keep_running("the part", work.run, expected=(OSError,), on_state=listener, pauses=QUICK)
    )
    await until(lambda: work.lives == 3)
    keeper.cancel()
    await asyncio.wait([keeper])
    assert "telling that the part is lost" in caplog.text


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_program_is_not_caught(end: type[BaseException]) -> None:
    with pytest.raises(end):
        asyncio.run(keep_running("the part", Work(end()).run, pauses=QUICK))


async def test_work_that_is_waited_for_and_cancelled_by_others_is_a_bug() -> None:
    """Otherwise whoever asked for it would wait for an answer that never comes."""
    inner = asyncio.get_running_loop().create_future()
    inner.cancel()
    outcome = await caught("the work", inner)
    assert isinstance(outcome, Bug)
    outer = asyncio.create_task(caught("the work", asyncio.Event().wait()))
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_background_work_goes_on_though_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    background, go, done = Background(KeyError), asyncio.Event(), asyncio.Event()

    async def work(error: Exception | None) -> None:
        await go.wait()
        if error is not None:
            raise error
        done.set()

    waiting = asyncio.create_task(background.finish(work(None), "the work"))
    await asyncio.sleep(0)
    waiting.cancel()
    failing = [background.start(work(error), str(error)) for error in (KeyError("told in a line"), OSError("disk"))]
    go.set()
    await asyncio.wait(failing)
    await done.wait()
    assert waiting.cancelled()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "'told in a line': 'told in a line'"),
        ("CRITICAL", "a bug while doing disk"),
    ]
    left = background.start(asyncio.Event().wait(), "for ever")
    await background.stop()
    assert left.cancelled()


async def test_a_single_piece_of_work_gives_its_result_or_its_bug() -> None:
    async def piece(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 7

    assert await caught("adding", piece(None)) == 7
    outcome = await caught("adding", piece(KeyError("oops")))
    assert isinstance(outcome, Bug)
    assert outcome.what == "adding"
    assert isinstance(outcome.error, KeyError)


def test_pauses_grow_to_their_longest() -> None:
    pauses = Pauses(first_s=1.0, longest_s=10.0)
    assert all(0.75 <= pauses.before(1) <= 1.0 for _ in range(50))
    assert all(7.5 <= pauses.before(attempt) <= 10.0 for attempt in (5, 50, 5_000))
