"""A printer: jobs in, and an honest word on what became of each.

"printed" is said only when the printer itself proved it; "sent" when every byte has left, the printer has been heard of
since, and it cannot prove more. A printer that says what holds it up in mid-job (no paper) keeps what it has and goes
on when it is helped: no time runs out meanwhile, and nothing is sent again. Otherwise time counts from the last bytes
it took, so that a slow line needs no longer limit than a fast one.

Before a job the printer is asked how it is, so that a job to a printer that is off, open or out of paper fails without
one byte of it having left. A job that broke off may have left the printer waiting for the rest of a picture: after
every opening it must answer from its print queue, and is fed with NULs (which print nothing) until it does. A picture
for a display behind it that broke off may have left the printer deaf, so every opening selects the printer (ESC = 1)
first. Every job switches automatic status on again, before and after: initialising and power cycles switch it off
without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal

from drivers.displays.base import SELECT_PRINTER
from drivers.drawers.pulse import PrinterDrawer
from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import DeviceLost, NotReady
from drivers.events import DrawerStatus, Event, PrinterStatus, PrintProof
from drivers.printers.base import PrinterProtocol
from drivers.printers.escpos_status import report_changes, request_proof
from drivers.printers.profiles import PrinterProfile
from drivers.transports.base import TellsPort, Transport

INITIALISE = b"\x1b\x40"
CHUNK_BYTES = 2048
ANSWER_S = 2.0
"""A printer that is on answers a real-time question at once; this leaves room for a slow network."""

LOOK_EVERY_S = 1.0
"""While a job is on its way and nothing comes of it, the printer is looked at this often."""
SLOWEST_BYTES_PER_S = 1000
"""9600 baud. A job that has left may stand in buffers on the way, and comes out no slower than this."""
STUCK_S = 900.0
"""A printer that waits for help in mid-job is waited for no longer than this."""

_REPORTS_OF_A_JOB = 2
"""Automatic status is switched on at both ends of a job, and answers each time."""

PARSER_ANSWER_S = 1.0
FEW_NULS, MANY_NULS, FEEDINGS = bytes(16), bytes(8192), 4
"""Few end a short command that broke off; many, several times, end a picture."""

Outcome = Literal["printed", "sent"]


class PrinterDriver(Driver):
    """One receipt printer and the drawer connector on its back."""

    protocol: PrinterProtocol

    def __init__(
        self,
        transport: Transport,
        protocol: PrinterProtocol,
        on_event: OnEvent,
        on_open: OnOpen | None = None,
        *,
        profile: PrinterProfile,
    ) -> None:
        super().__init__(transport, protocol, on_event, on_open)
        self.profile = profile
        self.drawer_status = DrawerStatus(None)
        self._line = asyncio.Lock()
        self._answered: asyncio.Future[None] | None = None
        self._asked_at = -float("inf")
        self._obeys: asyncio.Future[None] | None = None
        self._proofs: dict[bytes, asyncio.Future[None]] = {}
        self._reports = asyncio.Queue[None](_REPORTS_OF_A_JOB)
        self._stirred = asyncio.Event()
        self._ended: asyncio.Future[None] | None = None

    @property
    def tells(self) -> bool:
        """Whether it can be asked how it is: itself, or the port that it is plugged into."""
        return self.profile.real_time_status or isinstance(self.transport, TellsPort)

    @property
    def status(self) -> PrinterStatus:
        """What is known of the printer now; all unknown while it is not connected."""
        return self.protocol.status

    async def ask(self, timeout_s: float = ANSWER_S) -> PrinterStatus:
        """Ask the printer how it is, in real time; raises NotReady("no_answer") or DeviceLost.

        A printer that is being sent a job is not asked; it has `timeout_s` and a second to take the rest.
        """
        try:
            async with asyncio.timeout(timeout_s + 1), self._line:
                return await self._now(timeout_s)
        except TimeoutError:
            message = f"{self.transport.name} is in the middle of a job and cannot be asked; try again after it"
            raise NotReady("no_answer", message) from None

    async def send(
        self, job: bytes, token: bytes | None, timeout_s: float, on_left: Callable[[], None] | None = None
    ) -> Outcome:
        """Print `job`; with `token` (4 printable ASCII bytes) and a printer that can, wait for proof of it.

        `timeout_s` is how long the printer may take no byte, or give no word of the end, without saying why. While it
        says why (no paper, cover open) the job waits in it, for `STUCK_S` at most. Raises NotReady (no_answer,
        cover_open, paper_out, printer_error_..., printer_offline, not_drained, no_proof) or DeviceLost. `started` on
        both tells whether any byte may have left; only when False may the job be sent again or elsewhere. A proof that
        comes after the time is over still arrives as a `PrintProof` event. `on_left` is called when every byte has left
        and only the proof is waited for.
        """
        proof = self._expect(token) if token is not None and self.profile.proves_printing else None
        data = self._framed(job, token if proof is not None else None)
        started = left = False
        try:
            async with asyncio.timeout(timeout_s) as bound, self._line:
                await self._check()
                started = True
                bound.reschedule(None)  # from here on only time without progress counts
                reports, ended = asyncio.Queue[None](_REPORTS_OF_A_JOB), self._ended
                self._reports = reports
                await self._carry(data, timeout_s)
            left = True
            limit_s = timeout_s + len(data) / SLOWEST_BYTES_PER_S
            if proof is None:
                await self._unless(ended, self._taken(reports, limit_s))
                return "sent"
            if on_left is not None:
                on_left()
            await self._patiently(proof, limit_s, asking=self.tells)
        except TimeoutError:
            fallback = "not_drained" if started and not left else "no_proof" if left and proof else "no_answer"
            reason = self.protocol.status.reason or fallback
            raise NotReady(reason, f"{self.transport.name}: {_ADVICE[reason]}", started=started) from None
        except DeviceLost as error:
            raise DeviceLost(str(error), started=started) from error
        finally:
            if token is not None:
                self._proofs.pop(token, None)
        return "printed"

    async def kick(self, drawer: PrinterDrawer, timeout_s: float = 5.0) -> None:
        """Send the drawer its pulse; also while the printer is out of paper or open (then in real time).

        Returns when the pulse has left; whether the drawer opened, its `DrawerStatus` tells. Raises NotReady
        ("no_answer", "not_drained") or DeviceLost.
        """
        try:
            async with asyncio.timeout(timeout_s), self._line:
                stuck = self.profile.real_time_status and (await self._ask(ANSWER_S)).reason is not None
                await self._carry(drawer.real_time_pulse() if stuck else drawer.queued_pulse())
        except TimeoutError:
            message = f"{self.transport.name} takes no bytes; clear its fault or open the drawer with its key"
            raise NotReady("not_drained", message) from None

    async def pass_through(self, data: bytes, timeout_s: float = 5.0) -> None:
        """Carry `data` (at most 2048 bytes) between two jobs, in one piece, to what hangs behind the printer.

        It must end with the printer selected again (ESC = 1). A job in hand is waited for. A printer that is known to
        be stuck gets nothing: what waits in its buffer would come late. Raises NotReady (as `send`) or DeviceLost.
        """
        if len(data) > CHUNK_BYTES:
            raise ValueError(f"{len(data)} bytes are more than one piece of {CHUNK_BYTES}")
        async with self._line:
            reason = self.protocol.status.reason
            if reason is not None:
                raise NotReady(reason, f"{self.transport.name}: {_ADVICE[reason]}")
            try:
                async with asyncio.timeout(timeout_s):
                    await self._carry(data)
            except TimeoutError:
                raise NotReady("not_drained", f"{self.transport.name}: {_ADVICE['not_drained']}") from None

    def _framed(self, job: bytes, token: bytes | None) -> bytes:
        status = report_changes() if self.profile.automatic_status else b""
        return INITIALISE + status + job + status + (request_proof(token) if token is not None else b"")

    def _expect(self, token: bytes) -> asyncio.Future[None]:
        if token in self._proofs:
            raise ValueError(f"token {token!r} is in use by another job; choose one token per job")
        return self._proofs.setdefault(token, asyncio.get_running_loop().create_future())

    async def _check(self) -> None:
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        reason = (await self._now(ANSWER_S)).reason if self.tells else None
        if reason is not None:
            raise NotReady(reason, f"{self.transport.name}: {_ADVICE[reason]}")
        if self._obeys is not None and not self._obeys.done():
            await self._end_broken_command(self._obeys)

    async def _end_broken_command(self, obeys: asyncio.Future[None]) -> None:
        for _ in range(FEEDINGS):
            await asyncio.wait((obeys,), timeout=PARSER_ANSWER_S)
            if obeys.done():
                obeys.result()  # raises DeviceLost when the link went meanwhile
                return
            await self._carry(MANY_NULS + report_changes())
        self._obeys = None  # this model has no automatic status after all

    async def _now(self, timeout_s: float) -> PrinterStatus:
        """What the printer says when asked; where it says nothing, what its port says."""
        if self.profile.real_time_status:
            return await self._ask(timeout_s)
        if isinstance(self.transport, TellsPort):
            port = await self.transport.port_status()
            if port is not None:
                self._deliver(self.protocol.port(port))
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        return self.protocol.status

    async def _ask(self, timeout_s: float) -> PrinterStatus:
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        loop = asyncio.get_running_loop()
        if loop.time() - self._asked_at > ANSWER_S:
            self.protocol.stop_expecting()  # an earlier question that was never answered
        self._answered = loop.create_future()
        self._question()
        await asyncio.wait((self._answered,), timeout=timeout_s)
        if not self._answered.done():
            self.protocol.stop_expecting()
            raise NotReady("no_answer", f"{self.transport.name}: {_ADVICE['no_answer']}")
        self._answered.result()  # raises DeviceLost when the link went meanwhile
        return self.protocol.status

    async def _carry(self, data: bytes, limit_s: float | None = None) -> None:
        """Send `data`; TimeoutError when for `limit_s` no byte is taken and the printer does not say why."""
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        for start in range(0, len(data), CHUNK_BYTES):
            self.transport.write(data[start : start + CHUNK_BYTES])
            try:
                if limit_s is None:
                    await self.transport.drain()
                else:  # a question would wait behind what the printer does not take
                    await self._patiently(self.transport.drain(), limit_s, asking=False)
            except (asyncio.CancelledError, TimeoutError):
                # The rest must never follow: what comes next would be printed in the middle of this job.
                await self.transport.close()
                self._lost(DeviceLost(f"{self.transport.name} stopped taking a job; the link is opened anew"))
                raise

    async def _patiently(self, work: Awaitable[None], limit_s: float, *, asking: bool) -> None:
        """Await `work`; raises TimeoutError after `limit_s` in which the printer did not say what holds it up."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(work)
        before, left_s, stuck_s = loop.time(), limit_s, STUCK_S
        try:
            while left_s > 0 and stuck_s > 0:
                await asyncio.wait((waiting,), timeout=min(left_s, LOOK_EVERY_S))
                if waiting.done():
                    return waiting.result()
                if asking:
                    try:
                        await self.ask()
                    except NotReady:
                        asking = False  # its buffer may be full, questions and all: go by what it said last
                now = loop.time()
                if self.protocol.status.reason is None:
                    left_s -= now - before
                else:
                    stuck_s -= now - before
                before = now
            raise TimeoutError
        finally:
            waiting.cancel()

    async def _unless(self, ended: asyncio.Future[None] | None, work: Awaitable[None]) -> None:
        """Await `work`; raises DeviceLost when the link ends first, though another one may be open by then."""
        doing = asyncio.ensure_future(work)
        try:
            await asyncio.wait((doing, *filter(None, (ended,))), return_when=asyncio.FIRST_COMPLETED)
            if ended is None or ended.done():
                raise DeviceLost(f"{self.transport.name} went away before all was printed")
            doing.result()
        finally:
            if not doing.cancel() and not doing.cancelled():
                doing.exception()  # marked as seen, where the end of the link came first

    async def _taken(self, reports: asyncio.Queue[None], limit_s: float) -> None:
        """Return when a printer that proves nothing has reached the end of the job, as far as can be told.

        Its automatic status is switched on at both ends of the job, in the order of printing, and each time it reports
        at once: one report is missing where its power was cut in between. Then nothing may hold it up.
        """
        if self._obeys is not None and self._obeys.done():
            for _ in range(_REPORTS_OF_A_JOB):
                await self._patiently(reports.get(), limit_s, asking=False)
        loop = asyncio.get_running_loop()
        silent_at, stuck_at = loop.time() + limit_s, loop.time() + STUCK_S
        while self.tells:
            try:
                if (await self.ask()).reason is None:
                    return
                silent_at = loop.time() + limit_s
            except NotReady:
                if self.protocol.status.reason is None and loop.time() > silent_at:
                    raise TimeoutError from None
            if loop.time() > stuck_at:
                raise TimeoutError
            self._stirred.clear()  # its answer is no news: it would be asked again at once, for ever
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stirred.wait()

    def _heard(self, event: Event) -> None:
        if isinstance(event, DrawerStatus):
            self.drawer_status = event
        elif isinstance(event, PrintProof):
            proof = self._proofs.get(event.token)
            if proof is not None and not proof.done():
                proof.set_result(None)
        if isinstance(event, PrinterStatus):
            self._stirred.set()
            if len(event.raw) == 4:  # an automatic status
                if not self._reports.full():
                    self._reports.put_nowait(None)
                if self._obeys is not None and not self._obeys.done():
                    self._obeys.set_result(None)  # the print queue obeys
        answered = self._answered
        if isinstance(event, PrinterStatus) and not self.protocol.expecting and answered and not answered.done():
            answered.set_result(None)

    def _opened(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._obeys = None
        self.transport.write(FEW_NULS + SELECT_PRINTER)
        if self.profile.automatic_status:
            self._obeys = asyncio.get_running_loop().create_future()
            self.transport.write(report_changes())
        if self.profile.real_time_status:
            self._question()

    def _question(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        self.transport.write(self.protocol.asking())

    def _closed(self) -> None:
        error = DeviceLost(f"{self.transport.name} went away; it is opened again by itself")
        self.drawer_status = DrawerStatus(None)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        for future in (*self._proofs.values(), self._answered, self._obeys):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # marked as seen: there may be nobody waiting any more


_ADVICE = {
    "no_answer": "does not answer; check its power and cable",
    "cover_open": "the cover is open; close it",
    "paper_out": "no paper; put in a new roll",
    "printer_error_cutter": "the knife is stuck; open the cover, clear the paper, close it",
    "printer_error_ribbon": "no ribbon; put in a new one",
    "printer_error_recoverable": "an error that ends by itself (a hot head); wait a little",
    "printer_error_unrecoverable": "a fault; switch it off and on, then call service",
    "printer_offline": "offline; press its feed button or switch it off and on",
    "not_drained": "takes no more bytes; look at its lamps",
    "no_proof": "took the job and did not prove it; look at the paper before printing again",
}
