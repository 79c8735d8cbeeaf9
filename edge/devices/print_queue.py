"""One printer's jobs, and the worker that prints them in order of arrival.

Strategy: one loop. Look whether the printer can print; if not, hold the jobs and wait for a change of its status; if
it can, write ``sending``, send, write how it ended. A job of which not one byte left goes back to the head of the
queue; one that may have started never does. Waiting requests are woken whenever a job or the printer changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import NoReturn

from drivers.errors import DeviceLost, NotReady
from drivers.printers.printer_driver import PrinterDriver
from edge.bus.messages.facts import PrintFinished
from edge.bus.messages.replies import Code, ProblemError
from edge.devices.attached import Attached
from edge.devices.print_ledger import Job, PrintLedger, State
from edge.journal.clock import Clock
from edge.journal.store import NotStored, StorageFull, Store
from edge.services.facts import Report
from edge.services.replies import not_stored

log = logging.getLogger(__name__)

SEND_S = 30.0
"""A printer may take no byte of a job, and give no word of its end, for this long without saying why (`send`)."""
LOST_GRACE_S = 1.0
"""A link that is just being opened is not yet reported as lost."""
WAITING_LIMIT = 200
"""Jobs that may wait for one printer; more are refused."""
RECHECK_S = 3.0
"""A printer that is not ready, and for which a job waits, is asked again this often."""


class PrinterQueue:
    """The jobs that wait for one printer, and the worker that prints them."""

    def __init__(
        self,
        device: Attached,
        driver: PrinterDriver,
        ledger: PrintLedger,
        report: Report,
        clock: Clock,
        send_s: float = SEND_S,
    ) -> None:
        self.device = device
        self.driver = driver
        self.jobs: deque[Job] = deque()
        self.hold: ProblemError | None = None
        """Why nothing is printed at the moment; waiting requests are answered with it."""
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, whenever a job, `hold` or the printer changes."""
        self._ledger = ledger
        self._report = report
        self._clock = clock
        self._send_s = send_s
        self._wake = asyncio.Event()
        self._current: Job | None = None
        self._awaiting: bytes | None = None
        self._late: set[bytes] = set()
        self._unfit_since: float | None = None

    @property
    def full(self) -> bool:
        """Whether as many jobs wait as may."""
        return len(self.jobs) >= WAITING_LIMIT

    @property
    def fit(self) -> bool:
        """Whether nothing known keeps the printer from printing; a full disk of ours is not its fault."""
        holds = self.hold is not None and self.hold.code is not Code.STORAGE_FULL
        stopped = self.device.fault or not self.driver.is_open or self.driver.status.reason is not None
        return not (holds or stopped)

    @property
    def waits_for(self) -> str:
        """What keeps the printer from printing, and what a person should do; empty when nothing known does."""
        if self.hold is not None:
            return self.hold.detail
        reason = self.driver.status.reason
        return f"{reason}: {self.device.please or self.device.id}" if reason is not None else ""

    @property
    def unfit_s(self) -> float | None:
        """How long the printer has not been fit; None while it is."""
        since = self._unfit_since
        return asyncio.get_running_loop().time() - since if since is not None else None

    def add(self, job: Job) -> None:
        """Let the worker print `job`, whose row is on disk."""
        self.jobs.append(job)
        self._wake.set()
        self.tell()

    def stir(self) -> None:
        """Something about the printer has changed: look again."""
        self._wake.set()
        self._note_fitness()

    def _note_fitness(self) -> None:
        if self.fit and self._unfit_since is not None:
            self._unfit_since = None
            self.tell()
        elif not self.fit and self._unfit_since is None:
            self._unfit_since = asyncio.get_running_loop().time()
            self.tell()

    async def cancel(self, job: Job) -> None:
        """Take a job back that waits here: not one byte of it has left."""
        await self._end(job, "cancelled", "the till took it back")

    async def run(self) -> NoReturn:
        """Print what waits, in order, until cancelled."""
        if self._current is not None:  # a fault of ours ended the worker in the middle of this job
            await self._end(self._current, "unknown", "the gateway had a fault while it was printed")
        self._note_fitness()
        while True:
            self._wake.clear()
            await self._expire()
            if self._first is None:
                self._held(None)
                await self._wake.wait()
                continue
            problem = await self._obstacle()
            self._held(problem)
            if problem is None and (job := self._first) is not None:  # another one, where that was taken back meanwhile
                problem = await self._print(job)
                self._held(problem)
            if problem is not None:
                await self._pause(RECHECK_S)

    # -- before a job ----------------------------------------------------------------------------------------------

    @property
    def _first(self) -> Job | None:
        """Whose turn it is; not one whose end is on its way to the disk."""
        return next((job for job in self.jobs if job.state == "queued"), None)

    async def _expire(self) -> None:
        now_ms = self._clock.now().mono_ms
        for job in [job for job in self.jobs if job.expires_ms <= now_ms]:
            if job not in self.jobs or job.state != "queued":
                continue  # it went, or is going, while another one's end was written
            reason = self.hold.detail if self.hold is not None else "its time to live was over before its turn came"
            await self._end(job, "expired", reason)

    async def _obstacle(self) -> ProblemError | None:
        """What certainly keeps the printer from printing now, or None."""
        if not self.driver.is_open:
            await self._pause(0.0 if self.hold is not None else LOST_GRACE_S)
        if self.device.fault:
            return ProblemError(Code.FAULTED, f"{self.device.id} is stopped: {self.device.fault}")
        if not self.driver.is_open:
            return ProblemError(Code.DEVICE_LOST, f"{self.device.id} is not connected; check its cable and power")
        status = self.driver.status
        if self.hold is not None or status.reason is not None or status.online is None:
            # Asked before the job is said to be under way, which after a crash would mean that it may be on paper.
            try:
                reason = (await self.driver.ask()).reason if self.driver.tells else None
                self._wake.clear()  # its answer is no change to wait for: it would be asked again at once, for ever
            except NotReady:
                return ProblemError(Code.DEVICE_LOST, f"{self.device.id} does not answer; check its cable and power")
            except DeviceLost as error:
                return ProblemError(Code.DEVICE_LOST, str(error))
            if reason is not None:
                return ProblemError(Code.NOT_READY, f"{reason}: {self.device.please or self.device.id}")
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait for a change of the printer, a new job or the end of a time to live, at most `seconds`."""
        now_ms = self._clock.now().mono_ms
        left_s = [(job.expires_ms - now_ms) / 1000 for job in self.jobs]
        bound_s = max(0.0, min([seconds, *left_s]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                await self._wake.wait()

    # -- the job ---------------------------------------------------------------------------------------------------

    async def _print(self, job: Job) -> ProblemError | None:
        """Print a job. A problem is returned when not one byte left and the job waits on."""
        job.state, job.attempts = "sending", job.attempts + 1
        try:
            await self._ledger.store.write([job.update(None)])
        except NotStored as error:
            job.state = "queued"
            return not_stored(error)
        self._current = job
        self._awaiting = job.token
        try:
            outcome = await self.driver.send(job.content, job.token, self._send_s, lambda: self._left(job))
        except NotReady as error:
            if not error.started:
                code = Code.DEVICE_LOST if error.reason == "no_answer" else Code.NOT_READY
                return await self._back(job, ProblemError(code, f"{error.reason}: {error}"))
            self._awaiting = None
            await self._end(job, "unknown", f"{error.reason}: {error}")
        except DeviceLost as error:
            if not error.started:
                return await self._back(job, ProblemError(Code.DEVICE_LOST, str(error)))
            self._awaiting = None
            await self._end(job, "unknown", str(error))
        else:
            self._awaiting = None
            await self._end(job, outcome, "")
        return None

    def _left(self, job: Job) -> None:
        """All of the job is in the printer, which has yet to prove it: good to know after a crash, not worth a wait."""
        job.state = "sent"
        self._ledger.store.write([job.update(None)], urgent=False).add_done_callback(_seen)
        self.tell()

    async def _back(self, job: Job, problem: ProblemError) -> ProblemError:
        self._awaiting = None
        job.state = "queued"
        await self._ledger.store.write([job.update(None)])
        self._current = None
        return problem

    async def _end(self, job: Job, state: State, reason: str) -> None:
        """Write how the job ended, in the ledger and in the journal, then let everyone know.

        NotStored where not even the ledger can be written: then nothing has changed.
        """
        if state == "unknown" and job.token in self._late:
            state, reason = "printed", ""
        before = job.state, job.reason
        job.state, job.reason, job.proven = state, reason, state == "printed"
        try:
            await end_job(job, self._ledger.store, self._report, self._clock)
        except NotStored:
            (job.state, job.reason), job.proven = before, False
            self._wake.set()
            raise
        if job in self.jobs:
            self.jobs.remove(job)
        if self._current is job:
            self._current = None
        self.tell()
        if job.token in self._late:
            self._late.discard(job.token)
            if job.state == "unknown":
                await self.proven_late(job)

    async def proven_late(self, job: Job) -> None:
        """An unknown job turns out to be on paper."""
        job.state, job.proven, job.reason = "printed", True, ""
        await end_job(job, self._ledger.store, self._report, self._clock)

    def proof(self, token: bytes) -> bool:
        """The printer proves `token`; True when it belongs to no job in hand, so perhaps to an earlier one."""
        if token == self._awaiting:
            return False  # the driver waits for it
        if self._current is not None and token == self._current.token:
            self._late.add(token)
            return False
        return True

    def _held(self, problem: ProblemError | None) -> None:
        told = self.hold is not None and problem is not None and str(self.hold) == str(problem)
        if problem is not self.hold and not told:
            self.hold = problem
            self._note_fitness()
            self.tell()

    def tell(self) -> None:
        """Wake whoever waits for a change."""
        before, self.changed = self.changed, asyncio.Event()
        before.set()


def _seen(write: asyncio.Future[None]) -> None:
    """A row that could not be brought up to date says less than is known, and what it says stays true."""
    if not write.cancelled() and (error := write.exception()) is not None:
        log.warning("that a print job has left is not in the ledger: %s", error)


async def end_job(job: Job, store: Store, report: Report, clock: Clock) -> None:
    """Put an ended job's row and its `PrintFinished` on disk together; then it has ended."""
    update = job.update(clock.now().wall)
    fact = PrintFinished(job=job.job, device=job.device, lane=job.lane, state=job.state, proven=job.proven)
    try:
        await report(fact, also=[update])
    except StorageFull as error:
        log.error("the end of print job %s is in the ledger but not in the journal: %s", job.job, error)
        await store.write([update])
    job.ended = True
