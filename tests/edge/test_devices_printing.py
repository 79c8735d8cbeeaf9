"""Print jobs: once on the paper, or an honest word that nobody knows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path

import pytest

from drivers.virtual.wire import TcpWire
from drivers.virtual.zpl_printer import VirtualZplPrinter
from edge.bus.messages.replies import Code, ProblemError
from edge.config import Device
from edge.devices.printing import WAITING_LIMIT
from edge.journal.clock import Clock
from edge.journal.erasing import naming
from tests.edge.devices_rig import Counter, receipt, until

FINISHED = "tillgate.print.finished.v1"


async def test_a_receipt_is_printed_and_proved(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        result = await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"))
        assert result == {"job": "a-1", "state": "printed", "ended": True, "proven": True, "device": "printer-1"}
        assert counter.on_paper("Sale 1") == 1
        assert await counter.facts(FINISHED) == [
            {"job": "a-1", "device": "printer-1", "lane": "lane-1", "state": "printed", "proven": True}
        ]
        assert await counter.ask("print.state", {"job": "a-1"}) == result


async def test_every_element_of_a_document_and_raw_bytes(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        document = [
            {"kind": "text", "text": "Grüße \ue000", "align": "center", "bold": True, "width": 2, "height": 2},
            {"kind": "row", "left": "Bananas 0.482 kg", "right": "1.20"},
            {"kind": "rule"},
            {"kind": "barcode", "symbology": "EAN13", "data": "4006381333931"},
            {"kind": "qr", "data": "https://shop.example/r/1"},
            {"kind": "feed", "lines": 2},
            {"kind": "cut"},
        ]
        result = await counter.ask("print", {"document": document})
        assert result["replaced"] == "\ue000"
        (paper,) = counter.receipts()
        assert "Grüße ?" in paper
        assert "Bananas 0.482 kg" in paper
        assert "4006381333931" in paper
        assert "https://shop.example/r/1" in paper
        raw = base64.b64encode(b"Raw line\n\x1dV\x00").decode()
        assert (await counter.ask("print", {"raw": raw}))["state"] == "printed"
        assert counter.on_paper("Raw line") == 1


async def test_what_cannot_be_printed_is_a_bad_message_and_no_job(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        wrong = [{"kind": "barcode", "symbology": "EAN13", "data": "not digits"}]
        for parameters in ({}, {"document": []}, {"raw": ""}, {"document": wrong}, receipt("x") | {"raw": "eA=="}):
            problem = await counter.problem("print", {"job": "bad"} | parameters)
            assert problem.code is Code.BAD_MESSAGE, parameters
        assert (await counter.problem("print.state", {"job": "bad"})).code is Code.NOT_FOUND
        assert counter.receipts() == []


async def test_the_same_job_is_never_printed_twice(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        same = {"job": "a-1"} | receipt("Sale 1")
        results = await asyncio.gather(*(counter.ask("print", same) for _ in range(5)))
        assert [result["state"] for result in results] == ["printed"] * 5
        assert (await counter.ask("print", same))["state"] == "printed"
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 2"))
        assert problem.code is Code.CONFLICT
        other_lane = await counter.ask("print", {"job": "a-1"} | receipt("Sale 3"), lane="lane-2")
        assert other_lane["state"] == "printed"
        assert [counter.on_paper(f"Sale {number}") for number in (1, 2, 3)] == [1, 0, 1]
        assert len(await counter.facts(FINISHED)) == 2


async def test_two_lanes_share_a_printer_in_order(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        lanes = ["lane-1", "lane-2"]
        await asyncio.gather(
            *(counter.ask("print", {"job": f"j{n}"} | receipt(f"Sale {n}"), lane=lanes[n % 2]) for n in range(10))
        )
        assert sorted(counter.on_paper(f"Sale {n}") for n in range(10)) == [1] * 10
        problem = await counter.problem("print.state", {"job": "j0"}, lane="lane-2")
        assert problem.code is Code.NOT_YOURS


@pytest.mark.parametrize(
    ("fault", "mend", "reason", "please"),
    [
        (("paper", {"to": "out"}), ("paper", {"to": "ok"}), "paper_out", "Put in a new roll"),
        (("cover", {"to": "open"}), ("cover", {"to": "closed"}), "cover_open", "Close the cover"),
        (("error", {"to": "cutter"}), ("error", {"to": "none"}), "printer_error_cutter", "clear the knife"),
    ],
)
async def test_a_printer_that_is_not_ready_keeps_the_job_and_says_so(
    tmp_path: Path, fault: tuple[str, dict], mend: tuple[str, dict], reason: str, please: str
) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do(*fault)
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        assert please in counter.state("printer-1")["please"]
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"))
        assert problem.code is Code.NOT_READY
        assert problem.detail.startswith(reason)
        waiting = await counter.ask("print.state", {"job": "a-1"})
        assert waiting["state"] == "queued"
        assert waiting["reason"].startswith(f"{reason}: ")
        assert please in waiting["reason"]
        assert counter.receipts() == []
        await counter.printer.do(*mend)
        await counter.until_facts(FINISHED, 1)
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1


@pytest.mark.parametrize(
    ("model", "fault"), [("TM-T88V", {"to": "out"}), ("generic-80", {"to": "out", "after_lines": 3})]
)
async def test_a_printer_that_cannot_print_is_asked_now_and_then_only(
    tmp_path: Path, model: str, fault: dict[str, object]
) -> None:
    async with Counter(tmp_path, model=model, printer={"proof": model == "TM-T88V"}) as counter:
        await counter.ready()
        await counter.printer.do("paper", fault)
        asked = asyncio.ensure_future(counter.problem("print", {"job": "a-1"} | receipt("Sale 1", 8), deadline_s=3))
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        before = counter.printer.questions
        await asyncio.sleep(0.5)  # a printer that is asked as fast as it answers hears thousands meanwhile
        assert counter.printer.questions - before < 50
        assert (await asked).detail.startswith("paper_out: ")


async def test_a_job_is_never_printed_after_its_time_to_live(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        await counter.problem("print", {"job": "old", "ttl_ms": 1000} | receipt("Old"))
        await counter.problem("print", {"job": "new", "ttl_ms": 60_000} | receipt("New"))
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert (fact["job"], fact["state"]) == ("old", "expired")
        await counter.printer.do("paper", {"to": "ok"})
        await counter.until_facts(FINISHED, 2)
        assert [counter.on_paper("Old"), counter.on_paper("New")] == [0, 1]
        assert (await counter.problem("print", {"job": "old"} | receipt("Old"))).code is Code.EXPIRED


async def test_a_cable_pulled_before_the_job_keeps_it_for_later(tmp_path: Path) -> None:
    async with Counter(tmp_path, serial_printer=True) as counter:
        await counter.ready()
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("printer-1")["state"] == "offline", "the loss")
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"))
        assert problem.code is Code.DEVICE_LOST
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "queued"
        await counter.printer.do("cable", {"to": "plug"})
        await counter.until_facts(FINISHED, 1)
        assert counter.on_paper("Sale 1") == 1


async def test_a_printer_switched_off_in_mid_job_leaves_an_unknown_and_blocks_nothing(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("power", {"to": "cycle", "after_bytes": 400})
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1", lines=60))
        assert problem.code is Code.UNKNOWN_OUTCOME
        # The printer is coming up again: the next job is printed now, or waits and is printed then.
        with contextlib.suppress(ProblemError):
            await counter.ask("print", {"job": "a-2"} | receipt("Sale 2"))
        await counter.until_facts(FINISHED, 2)
        # Asked for again it is the same job: still unknown, and never printed again by itself.
        again = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1", lines=60))
        assert again.code is Code.UNKNOWN_OUTCOME
        assert counter.on_paper("Sale 2") == 1
        assert counter.on_paper("Sale 1") <= 1
        assert [fact["state"] for fact in await counter.facts(FINISHED)] == ["unknown", "printed"]


async def test_a_job_that_waits_is_taken_back_and_never_printed(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        for number in (1, 2):
            await counter.problem("print", {"job": f"a-{number}"} | receipt(f"Sale {number}"))
        cancelled = await counter.ask("print.cancel", {"job": "a-1"})
        assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "the till took it back")
        assert await counter.ask("print.cancel", {"job": "a-1"}) == cancelled
        assert (await counter.problem("print.cancel", {"job": "a-1"}, lane="lane-2")).code is Code.NOT_YOURS
        assert (await counter.problem("print.cancel", {"job": "nothing"})).code is Code.NOT_FOUND
        await counter.stop()
        await counter.printer.do("paper", {"to": "ok"})
        await counter.start()
        facts = await counter.until_facts(FINISHED, 2)
        assert [(fact["job"], fact["state"]) for fact in facts] == [("a-1", "cancelled"), ("a-2", "printed")]
        assert [counter.on_paper("Sale 1"), counter.on_paper("Sale 2")] == [0, 1]
        too_late = await counter.problem("print.cancel", {"job": "a-2"})
        assert (too_late.code, too_late.detail[:8]) == (Code.CONFLICT, "too late")


async def test_a_job_on_its_way_out_is_not_printed_meanwhile(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        for number in (1, 2):
            await counter.problem("print", {"job": f"a-{number}"} | receipt(f"Sale {number}"))
        with counter.disk_busy():
            cancelling = asyncio.ensure_future(counter.ask("print.cancel", {"job": "a-1"}))
            await asyncio.sleep(0)
            await counter.printer.do("paper", {"to": "ok"})
            await until(lambda: counter.state("printer-1")["state"] == "ready", "the status")
            assert not cancelling.done()
        assert (await cancelling)["state"] == "cancelled"
        facts = await counter.until_facts(FINISHED, 2)
        assert [(fact["job"], fact["state"]) for fact in facts] == [("a-1", "cancelled"), ("a-2", "printed")]
        assert [counter.on_paper("Sale 1"), counter.on_paper("Sale 2")] == [0, 1]


async def test_a_deadline_in_mid_commit_loses_neither_a_job_nor_its_cancelling(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        with counter.disk_busy(), pytest.raises(TimeoutError):
            await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"), deadline_s=0.2)
        assert (await counter.ask("print", {"job": "a-1"} | receipt("Sale 1")))["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        await counter.problem("print", {"job": "a-2"} | receipt("Sale 2"))
        with counter.disk_busy(), pytest.raises(TimeoutError):
            await counter.ask("print.cancel", {"job": "a-2"}, deadline_s=0.2)
        await counter.printer.do("paper", {"to": "ok"})
        assert (await counter.ask("print.cancel", {"job": "a-2"}))["state"] == "cancelled"
        assert counter.on_paper("Sale 2") == 0


async def test_a_reprint_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"))
        problem = await counter.problem("print.reprint", {"job": "a-1", "reason": "lost"}, request="a-1")
        assert problem.code is Code.CONFLICT
        assert len(counter.receipts()) == 1


async def test_a_job_that_has_started_is_not_taken_back(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out", "after_lines": 3})
        asking = asyncio.ensure_future(counter.ask("print", {"job": "a-1"} | receipt("Sale 1", lines=10)))
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        other = await counter.problem("print", {"job": "a-2"} | receipt("Sale 2"), deadline_s=0.5)
        assert (other.code, other.detail[:9]) == (Code.NOT_READY, "paper_out")
        assert (await counter.ask("print.state", {"job": "a-1"}))["reason"] == "paper_out: Put in a new roll"
        problem = await counter.problem("print.cancel", {"job": "a-1"})
        assert (problem.code, "sent" in problem.detail) == (Code.CONFLICT, True)
        assert (await counter.ask("print.cancel", {"job": "a-2"}))["state"] == "cancelled"
        await counter.printer.do("paper", {"to": "ok"})
        assert (await asking)["state"] == "printed"
        assert [counter.on_paper("Sale 1"), counter.on_paper("Sale 2")] == [1, 0]


async def test_the_same_receipt_under_a_new_id_is_a_new_job(tmp_path: Path) -> None:
    """odoo#263487: a dedupe swallowed a legitimate retry. odoo#240253: a retry under the same id printed twice."""
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for job in ("a-1", "a-1", "a-2"):
            assert (await counter.ask("print", {"job": job} | receipt("Sale 1")))["job"] == job
        assert counter.on_paper("Sale 1") == 2


async def test_a_clock_that_jumps_neither_expires_nor_revives_a_job(tmp_path: Path) -> None:
    """kura#2563: boxes jump to 2036; pos-addons#682: last night's tickets are printed in the morning."""
    days = [0]
    clock = Clock(wall_ms=lambda: 1_800_000_000_000 + days[0] * 86_400_000)
    async with Counter(tmp_path) as counter:
        await counter.stop()
        await counter.start(clock)
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"))
        await counter.problem("print", {"job": "a-2", "ttl_ms": 1000} | receipt("Sale 2"))
        days[0] = 3650
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert (fact["job"], fact["state"]) == ("a-2", "expired")
        days[0] = -3650
        await counter.printer.do("paper", {"to": "ok"})
        await counter.until_facts(FINISHED, 2)
        assert [counter.on_paper("Sale 1"), counter.on_paper("Sale 2")] == [1, 0]


async def test_a_reprint_is_a_job_of_its_own_marked_duplicate(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"))
        result = await counter.ask("print.reprint", {"job": "a-1", "reason": "customer asked"}, request="re-1")
        assert (result["job"], result["original"], result["state"]) == ("re-1", "a-1", "printed")
        again = await counter.ask("print.reprint", {"job": "a-1", "reason": "customer asked"}, request="re-1")
        assert again["job"] == "re-1"
        await counter.ask("print.reprint", {"job": "re-1", "reason": "once more"}, request="re-2")
        first, second, third = counter.receipts()
        assert "DUPLICATE" not in first
        assert second.split()[:2] == ["DUPLICATE", "a-1"]
        assert third.count("DUPLICATE") == 1
        assert counter.on_paper("Sale 1") == 3
        problem = await counter.problem("print.reprint", {"job": "nothing", "reason": "x"})
        assert problem.code is Code.NOT_FOUND


async def test_a_printer_that_proves_nothing_ends_as_sent(tmp_path: Path) -> None:
    async with Counter(tmp_path, model="generic-80") as counter:
        await counter.ready()
        result = await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"))
        assert (result["state"], result["proven"]) == ("sent", False)
        await until(lambda: counter.on_paper("Sale 1") == 1, "the receipt")
        await counter.stop()
        await counter.start()
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "sent"


async def test_the_deadline_bounds_the_answer_and_not_the_job(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("late", {"ms": 1500})
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"), deadline_s=0.5)
        assert problem.code is Code.TIMED_OUT
        await counter.until_facts(FINISHED, 1)
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1


# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_jobs_that_wait_go_on_after_a_restart(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        for number in range(3):
            await counter.problem("print", {"job": f"a-{number}"} | receipt(f"Sale {number}"))
        await counter.problem("print", {"job": "short", "ttl_ms": 1000} | receipt("Short"))
        await counter.stop()
        await asyncio.sleep(1.1)  # the time to live of one of them passes while nobody is there
        await counter.printer.do("paper", {"to": "ok"})
        await counter.start()
        await counter.until_facts(FINISHED, 4)
        assert [counter.on_paper(f"Sale {number}") for number in range(3)] == [1, 1, 1]
        assert counter.on_paper("Short") == 0


async def test_a_crash_in_the_middle_is_unknown_and_never_printed_again(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "ok", "after_lines": 5})  # it stops in the middle of the receipt
        asking = asyncio.ensure_future(counter.problem("print", {"job": "a-1"} | receipt("Sale 1", lines=30)))
        await until(lambda: "Item 3" in counter.printer.state()["strip"], "the first lines")
        asking.cancel()
        await counter.stop()
        await counter.start()
        await counter.printer.do("paper", {"to": "ok"})
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert fact["state"] == "unknown"
        recovered = counter.ask("print", {"job": "a-1"} | receipt("Sale 1", lines=30), recover=True)
        with pytest.raises(ProblemError) as problem:
            await recovered
        assert problem.value.code is Code.UNKNOWN_OUTCOME
        assert (await counter.ask("print", {"job": "a-2"} | receipt("Sale 2")))["state"] == "printed"
        assert counter.on_paper("Sale 1") <= 1
        assert counter.on_paper("Sale 2") == 1


async def test_a_crash_before_the_row_is_a_job_that_has_not_begun(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        result = await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"), recover=True)
        assert result["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1


async def test_a_job_of_an_earlier_boot_is_never_printed(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        await counter.problem("print", {"job": "a-1", "ttl_ms": 3_600_000} | receipt("Sale 1"))
        await counter.stop()
        await counter.printer.do("paper", {"to": "ok"})
        await counter.start(Clock(boot="the-next-morning"))
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert fact["state"] == "expired"
        await counter.ready()
        assert counter.receipts() == []


async def test_paper_out_in_mid_job_goes_on_with_a_new_roll(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "ok", "after_lines": 5})
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1", lines=30), deadline_s=1.5)
        assert problem.code is Code.NOT_READY
        assert problem.detail.startswith("paper_out")
        await counter.printer.do("paper", {"to": "ok"})
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert fact["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1


async def test_a_proof_that_comes_late_still_counts(tmp_path: Path) -> None:
    async with Counter(tmp_path, send_s=1.0) as counter:
        await counter.ready()
        await counter.printer.do("pace", {"bytes_per_s": 150})  # it prints, and says nothing until it has printed
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1", lines=30))
        assert problem.code is Code.UNKNOWN_OUTCOME
        await counter.printer.do("pace", {"bytes_per_s": 0})
        facts = await counter.until_facts(FINISHED, 2)
        assert [fact["state"] for fact in facts] == ["unknown", "printed"]
        assert (await counter.ask("print.state", {"job": "a-1"}))["proven"] is True
        assert counter.on_paper("Sale 1") == 1


async def test_jobs_without_end_are_refused(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        raw = base64.b64encode(b"x").decode()
        for number in range(WAITING_LIMIT):
            await counter.problem("print", {"job": f"j-{number}", "raw": raw})
        problem = await counter.problem("print", {"job": "one-more", "raw": raw})
        assert "wait for printer-1 already" in problem.detail
        assert (await counter.problem("print.state", {"job": "one-more"})).code is Code.NOT_FOUND


async def test_a_label_printer_takes_ready_made_labels_only(tmp_path: Path) -> None:
    labels = VirtualZplPrinter("labels-1", TcpWire(0), tmp_path / "labels")

    class WithLabels(Counter):
        def devices(self) -> list[Device]:
            assert isinstance(labels.wire, TcpWire)
            link = {"kind": "tcp", "host": "127.0.0.1", "port": labels.wire.port}
            return [
                *super().devices(),
                Device(id="labels-1", protocol="zpl-printer", lanes=("lane-1",), transport=link),
            ]

    await labels.open()
    async with WithLabels(tmp_path) as counter:
        await counter.ready()
        label = "^XA^FO50,50^FDBananas^FS^XZ"
        raw = base64.b64encode(label.encode()).decode()
        result = await counter.ask("print", {"job": "l-1", "device": "labels-1", "raw": raw})
        assert (result["state"], result["proven"]) == ("sent", False)
        assert labels.labels == [label]
        problem = await counter.problem("print", {"device": "labels-1", "document": [{"kind": "rule"}]})
        assert (problem.code, "takes ZPL only" in problem.detail) == (Code.BAD_MESSAGE, True)
        problem = await counter.problem("print.reprint", {"job": "l-1", "reason": "torn"})
        assert (problem.code, "cannot be marked" in problem.detail) == (Code.BAD_MESSAGE, True)
        assert labels.labels == [label]
    await labels.close()


async def test_receipts_that_name_somebody_who_is_erased_are_forgotten(tmp_path: Path) -> None:
    """They cannot be printed again; others can, also one of somebody whose number only begins so."""
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for job, member in (("a-1", "4711-0815"), ("a-2", "4711-08150"), ("a-3", "4711-0815")):
            await counter.ask("print", {"job": job} | receipt(f"Member {member}"))
        assert await counter.printing.forget(naming("4711-0815")) == 2
        assert await counter.printing.forget(naming("4711-0815")) == 0
        assert (await counter.ask("print.state", {"job": "a-2"}))["state"] == "printed"
        for job in ("a-1", "a-3"):
            with pytest.raises(ProblemError) as problem:
                await counter.ask("print.state", {"job": job})
            assert problem.value.code is Code.NOT_FOUND
