"""What a till is told of its print job: how it ended, or what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.bus.messages.replies import Code, ProblemError
from edge.devices.print_ledger import Job, State
from edge.devices.print_queue import PrinterQueue

_CODES: Mapping[State, Code] = {
    "unknown": Code.UNKNOWN_OUTCOME,
    "failed": Code.DEVICE_LOST,
    "expired": Code.EXPIRED,
    "cancelled": Code.EXPIRED,
}


def ended(job: Job) -> dict[str, Any]:
    """The result of a job that has ended; ProblemError where it is not on paper, or may not be."""
    if job.state in ("printed", "sent"):
        return job.result()
    raise ProblemError(_CODES[job.state], f"{job.state}: {job.reason}")


def waiting(job: Job, hold: ProblemError, now_ms: int) -> ProblemError:
    """Of a job that has not started: what holds it up, and for how long it will wait. `now_ms`: of this boot."""
    left_s = max(0, job.expires_ms - now_ms) // 1000
    detail = f"{hold.detail}; the job waits for {left_s} s more and is printed if that is mended; see print.state"
    return ProblemError(hold.code, detail)


def unfinished(job: Job, queue: PrinterQueue | None, now_ms: int) -> ProblemError:
    """Of a job that has not ended when the till's deadline is over."""
    if queue is not None and queue.hold is not None and job.state == "queued":
        return waiting(job, queue.hold, now_ms)
    reason = queue.driver.status.reason if queue is not None else None
    if job.state in ("sending", "sent") and reason is not None:
        return ProblemError(Code.NOT_READY, f"{reason}: in the middle of the job; ask print.state before repeating")
    if reason is not None:
        return ProblemError(Code.NOT_READY, f"{reason}: in the middle of another job; this one waits")
    return ProblemError(Code.TIMED_OUT, f"the job is {job.state}; ask print.state before repeating")
