"""Failover: what waits for a printer that cannot print goes to the one that stands in for it.

Strategy: only a job that has certainly not started moves: it is taken out of the first printer's queue before anything
else happens, and its row on disk names the second printer before that one may begin. So whatever breaks in between, one
printer and no other prints it. A job moves once; back is not offered, for a printer that comes and goes would send jobs
round in circles.

Source: design page "Devices" (receipt printers, failover).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn

from edge.devices.print_ledger import Job
from edge.devices.print_queue import PrinterQueue
from edge.journal.store import NotStored, Store

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""While jobs wait and the second printer cannot take them either, it is looked at this often."""


class Failover:
    """Moves jobs from `first` to `second` when `first` has been unfit for `after_s`.

    `usable(lane)` tells whether the lane may use the second printer now (it may be leased to another).
    """

    def __init__(
        self, first: PrinterQueue, second: PrinterQueue, after_s: float, usable: Callable[[str], bool], store: Store
    ) -> None:
        self._first = first
        self._second = second
        self._after_s = after_s
        self._usable = usable
        self._store = store

    def takes(self, job: Job) -> bool:
        """Whether `job`, which waits for the first printer, can be printed by the second."""
        second = self._second
        waits = job.state == "queued" and job.asked_device is None and job in self._first.jobs
        return waits and second.fit and not second.full and self._usable(job.lane)

    async def run(self) -> NoReturn:
        """Watch the first printer, until cancelled."""
        while True:
            changed, left_s = self._first.changed, None
            if self._first.jobs and self._first.unfit_s is not None:
                left_s = self._after_s - self._first.unfit_s
                if left_s <= 0:
                    await self._move()
                    left_s = LOOK_AGAIN_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()

    async def _move(self) -> None:
        for job in [job for job in self._first.jobs if self.takes(job)]:
            self._first.jobs.remove(job)  # from here on the first printer never prints it
            first, job.asked_device, job.device = job.device, job.device, self._second.device.id
            try:
                await self._store.write([job.moved()])
            except NotStored as error:
                log.error("print job %s waits on for %s: %s", job.job, first, error)
                job.asked_device, job.device = None, first
                self._first.add(job)
                return
            log.info("print job %s of lane %s goes from %s to %s", job.job, job.lane, first, job.device)
            if job.state == "queued":  # it may be on its way out: taken back meanwhile
                self._second.add(job)
            self._first.tell()
