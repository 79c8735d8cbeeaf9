"""Printing: each job once, or a word that nobody knows.

Strategy: the ledger (`print_ledger.py`) decides. A request adds a row and waits; one worker per printer takes rows in
order of arrival, and a job that failed never holds up the next one. What has certainly not started waits for paper,
cover or cable until its time to live is over; what may have started is never sent again by itself. A till that asks
for the same job id once more gets the same job. The answer leaves when the printer has proved the job, or has taken all
of it and cannot prove more; while the printer is not ready it leaves at once and says that the job waits, unless
another printer is about to stand in (`failover.py`).

Source: design pages "Devices" (receipt printers, ledger) and "Architecture" (print job -> paper).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from drivers.events import PrinterStatus, PrintProof
from drivers.printers.printer_driver import PrinterDriver
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import Print, PrintCancel, PrintReprint, PrintState
from edge.devices import print_answers, print_ledger
from edge.devices.attached import Attached
from edge.devices.failover import Failover
from edge.devices.print_ledger import PRINTING_SCHEMAS, Job, PrintLedger, State, token_of
from edge.devices.print_queue import SEND_S, WAITING_LIMIT, PrinterQueue, end_job
from edge.devices.receipts import Encoder, digest_of
from edge.devices.registry import Registry
from edge.journal.clock import Clock
from edge.journal.store import NotStored, Store
from edge.services.facts import Report
from edge.services.replies import not_stored
from edge.services.requests import Asked, Handler
from edge.supervisor import Background, keep_running

__all__ = ["PRINTING_SCHEMAS", "Printing"]

log = logging.getLogger(__name__)

PRELOAD_AFTER_S = 2.0
"""The encoder's library is loaded this long after the start, so that it does not delay the first scan."""
TRIM_EVERY_S = 6 * 3600.0
REPRINT_TTL_MS = 60_000


class Printing:
    """Serves `print` and its kin. `open` first, then `run` beside everything else.

    `report` records a fact of the gateway, with the keyword `also`; `send_s` is how long a printer may take to take a
    job and prove it.
    """

    def __init__(
        self, registry: Registry, store: Store, report: Report, clock: Clock, *, send_s: float = SEND_S
    ) -> None:
        self._registry = registry
        self._store = store
        self._report = report
        self._clock = clock
        self._ledger = PrintLedger(store)
        self._encoder = Encoder()
        self._queues: dict[str, PrinterQueue] = {}
        self._open: WeakValueDictionary[tuple[str, str], Job] = WeakValueDictionary()
        """Those that a queue or a request still has in hand; for all others the ledger is read."""
        self._intake: dict[str, asyncio.Lock] = {}
        self._token = int.from_bytes(os.urandom(4))
        self._background = Background(ProblemError, NotStored)
        for device in registry.all("printer"):
            if isinstance(device.driver, PrinterDriver):
                self._queues[device.id] = PrinterQueue(device, device.driver, self._ledger, report, clock, send_s)
        self._failovers: dict[str, Failover] = {}
        for queue in self._queues.values():
            second = self._queues.get(queue.device.failover or "")
            if second is not None:
                self._failovers[queue.device.id] = self._failover(queue, second)
        registry.subscribe(PrinterStatus, self._stirred)
        registry.subscribe(PrintProof, self._proved)
        registry.watch_links(self._stirred)

    @property
    def busy(self) -> bool:
        """Whether a job waits or is being printed."""
        return any(queue.jobs for queue in self._queues.values())

    # -- living ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Settle what an earlier life left: jobs in time go on, started ones are unknown, others are expired."""
        now = self._clock.now()
        for job in await self._ledger.unended():
            if job.state != "queued":
                done = "after all of it had left" if job.state == "sent" else "while it was printed"
                await self._settle(job, "unknown", f"the gateway stopped {done}; look at the paper")
            elif job.device not in self._queues:
                await self._settle(job, "failed", f"there is no printer {job.device} in this store any more")
            elif job.boot != now.boot:
                await self._settle(job, "expired", "the gateway was switched off before its turn came")
            elif job.expires_ms <= now.mono_ms:
                await self._settle(job, "expired", "its time to live was over before its turn came")
            else:
                self._enqueue(job)

    async def forget(self, names: Callable[[bytes], object]) -> int:
        """Forget receipts that name somebody, as `names` finds; how many. They cannot be printed again."""
        return await self._ledger.forget(names)

    async def run(self) -> None:
        """Print until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for queue in self._queues.values():
                    name = f"printing {queue.device.id}"
                    group.create_task(keep_running(name, queue.run, expected=(NotStored,)), name=name)
                for device, failover in self._failovers.items():
                    name = f"failover {device}"
                    group.create_task(keep_running(name, failover.run, expected=(NotStored,)), name=name)
                if self._queues:
                    name = "printing housekeeping"
                    group.create_task(keep_running(name, self._keep_house, expected=(NotStored,)), name=name)
        finally:
            await self._background.stop()

    async def _keep_house(self) -> None:
        await asyncio.sleep(PRELOAD_AFTER_S)
        await self._encoder.preload()
        while True:
            await self._store.write([print_ledger.trim()], urgent=False)
            await asyncio.sleep(TRIM_EVERY_S)

    async def _settle(self, job: Job, state: State, reason: str) -> None:
        job.state, job.reason = state, reason
        await end_job(job, self._store, self._report, self._clock)

    def _stirred(self, device: Attached, _: object) -> None:
        queue = self._queues.get(device.id)
        if queue is not None:
            queue.stir()

    def _proved(self, device: Attached, proof: PrintProof) -> None:
        queue = self._queues.get(device.id)
        if queue is not None and queue.proof(proof.token):
            self._background.start(self._proved_late(queue, proof.token), f"late proof {device.id}")

    async def _proved_late(self, queue: PrinterQueue, token: bytes) -> None:
        job = await self._ledger.by_token(queue.device.id, token)
        if job is not None:
            log.info("print job %s of lane %s is on paper after all", job.job, job.lane)
            await queue.proven_late(job)

    # -- requests --------------------------------------------------------------------------------------------------

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of printers."""
        return {
            "print": self._print,
            "print.state": self._state,
            "print.cancel": self._cancel,
            "print.reprint": self._reprint,
        }

    def recoveries(self) -> Mapping[str, Handler]:
        """A request that a crash interrupted: its job tells; without one, nothing had been printed yet."""
        return {"print": self._print, "print.cancel": self._cancel, "print.reprint": self._reprint}

    async def _print(self, asked: Asked, parameters: Print) -> dict[str, Any]:
        """``{"job", "state": "printed" | "sent", "proven", "device"}``, with `replaced` characters where any were."""
        job = await self._background.finish(self._wanted(asked, parameters), f"print {asked.request_id}")
        return await self._outcome(job, asked.answer_by_s)

    async def _wanted(self, asked: Asked, parameters: Print) -> Job:
        name = parameters.job or asked.request_id
        async with self._turn(asked.lane):
            job = await self._find(asked.lane, name)
            digest = digest_of(parameters)
            if job is None:
                device = self._registry.device_for(asked.lane, "printer", parameters.device, parameters.lease)
                queue = self._queue(device)
                encoded = await self._encoder.encode(parameters, queue.driver.profile)
                job = self._new_job(asked.lane, name, device.id, digest, encoded.data, parameters.ttl_ms)
                job.replaced = encoded.replaced
                await self._accept(job)
            elif job.digest != digest:
                raise ProblemError(Code.CONFLICT, f"there is a job {name!r} with other content; choose another name")
            return job

    async def _state(self, asked: Asked, parameters: PrintState) -> dict[str, Any]:
        """The job as the ledger has it: `state`, `proven`, `reason`; of one that has not ended, what it waits for."""
        job = await self._find(asked.lane, parameters.job)
        if job is None:
            raise await self._absent(parameters.job)
        queue = self._queues.get(job.device)
        waits_for = queue.waits_for if queue is not None and not job.ended else ""
        return job.result() | ({"reason": waits_for} if waits_for else {})

    async def _cancel(self, asked: Asked, parameters: PrintCancel) -> dict[str, Any]:
        """The job as it ended: not printed. Conflict when it is too late: a byte of it may have left."""
        job = await self._background.finish(self._taken_back(asked, parameters), f"cancel {parameters.job}")
        return job.result()

    async def _taken_back(self, asked: Asked, parameters: PrintCancel) -> Job:
        async with self._turn(asked.lane):
            job = await self._find(asked.lane, parameters.job)
            if job is None:
                raise await self._absent(parameters.job)
            queue = self._queues.get(job.device)
            if job.state == "queued" and queue is not None:
                try:
                    await queue.cancel(job)
                except NotStored as error:
                    raise not_stored(error) from error
            if job.state not in ("cancelled", "expired", "failed"):
                raise ProblemError(Code.CONFLICT, f"too late: {job.job} is {job.state}; it stays what it is")
            return job

    async def _reprint(self, asked: Asked, parameters: PrintReprint) -> dict[str, Any]:
        """A new job, named by the request, that repeats `original` below a line that says DUPLICATE."""
        job = await self._background.finish(self._again(asked, parameters), f"reprint {parameters.job}")
        return await self._outcome(job, asked.answer_by_s)

    async def _again(self, asked: Asked, parameters: PrintReprint) -> Job:
        async with self._turn(asked.lane):
            job = await self._find(asked.lane, asked.request_id)
            if job is not None and job.original is None:
                raise ProblemError(Code.CONFLICT, f"there is a job {job.job!r}; choose another id for this request")
            if job is None:
                original = await self._find(asked.lane, parameters.job)
                if original is None:
                    raise await self._absent(parameters.job)
                if not original.ended:
                    raise ProblemError(Code.NOT_READY, f"{original.job} is {original.state}: wait for its end")
                job = await self._repeat(asked, original, parameters.reason, parameters.lease)
            return job

    async def _repeat(self, asked: Asked, original: Job, reason: str, lease: int | None) -> Job:
        first = original
        if original.original is not None:  # a reprint of a reprint repeats the receipt, not its heading
            first = await self._find(asked.lane, original.original) or original
        if not first.content:
            raise ProblemError(Code.NOT_FOUND, f"what {first.job} printed cannot be read any more")
        device = self._registry.device_for(asked.lane, "printer", first.device, lease)
        content = await self._encoder.duplicate(first.job, first.content, self._queue(device).driver.profile)
        job = self._new_job(asked.lane, asked.request_id, device.id, first.digest, content, REPRINT_TTL_MS)
        job.original, job.reprint_reason, job.replaced = first.job, reason, first.replaced
        await self._accept(job)
        return job

    # -- the pieces ------------------------------------------------------------------------------------------------

    def _turn(self, lane: str) -> asyncio.Lock:
        """One request of a lane at a time makes or ends jobs, so that one name never makes two."""
        return self._intake.setdefault(lane, asyncio.Lock())

    def _failover(self, first: PrinterQueue, second: PrinterQueue) -> Failover:
        def usable(lane: str) -> bool:
            try:
                self._registry.device_for(lane, "printer", second.device.id)
            except ProblemError:
                return False
            return True

        return Failover(first, second, first.device.failover_after_s, usable, self._store)

    def _queue(self, device: Attached) -> PrinterQueue:
        queue = self._queues.get(device.id)
        if queue is None:
            raise ProblemError(Code.FAULTED, f"{device.id} has no driver that prints")
        if queue.full:
            raise ProblemError(Code.NOT_READY, f"{WAITING_LIMIT} jobs wait for {device.id} already; help it first")
        return queue

    def _new_job(self, lane: str, name: str, device: str, digest: bytes, content: bytes, ttl_ms: int) -> Job:
        now = self._clock.now()
        self._token += 1
        return Job(
            lane=lane,
            job=name,
            device=device,
            digest=digest,
            content=content,
            token=token_of(self._token),
            boot=now.boot,
            expires_ms=now.mono_ms + ttl_ms,
            created_at=now.wall,
        )

    async def _accept(self, job: Job) -> None:
        try:
            await self._store.write([job.insert(self._store)])
        except NotStored as error:
            raise not_stored(error) from error
        self._enqueue(job)

    def _enqueue(self, job: Job) -> None:
        self._open[job.lane, job.job] = job
        self._queues[job.device].add(job)

    async def _find(self, lane: str, name: str) -> Job | None:
        job = self._open.get((lane, name))
        return job if job is not None and not job.ended else await self._ledger.find(lane, name)

    async def _absent(self, name: str) -> ProblemError:
        owner = await self._ledger.lane_of(name)
        if owner is not None:
            return ProblemError(Code.NOT_YOURS, f"print job {name!r} belongs to another lane")
        return ProblemError(Code.NOT_FOUND, f"there is no print job {name!r}; ended ones are kept for a week")

    async def _outcome(self, job: Job, until_s: float) -> dict[str, Any]:
        """Wait for the end of the job, or for the reason why it has to wait; `job.device` may change meanwhile."""
        try:
            async with asyncio.timeout_at(until_s):
                while not job.ended and (queue := self._queues.get(job.device)) is not None:
                    failover = self._failovers.get(job.device)
                    moves = failover is not None and failover.takes(job)
                    if queue.hold is not None and job.state == "queued" and not moves:
                        raise print_answers.waiting(job, queue.hold, self._clock.now().mono_ms)
                    await queue.changed.wait()
        except TimeoutError:
            now_ms = self._clock.now().mono_ms
            raise print_answers.unfinished(job, self._queues.get(job.device), now_ms) from None
        return print_answers.ended(job)
