"""Bytes written to disk per sale, at one sale a second and at fifty, and how long a 32 GB card lives on that.

A running gateway (broker, edge, bridge) with a real till that sells; the bridge hands everything to a cloud broker
(``confirm = "broker"``), so that its cursors move. Counted is what the kernel says the three processes have had written
(/proc/pid/io), and beside it what the block device below the folder wrote meanwhile, whoever caused it. The raw sale is
its JSON as the till sends it. Peers, the same sales at the same pace: a plain SQLite table (rollback journal,
synchronous=FULL, one commit each), and a mosquitto that keeps them for an absent subscriber and saves on every change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.card import CARD_BYTES, CYCLES, WRITE_AMPLIFICATION, life_years, written_bytes
from bench.gateway import free_port, gateway, lanes_toml
from bench.headquarters import answers, cloud_broker
from bench.processes import Processes, mosquitto
from bench.report import Goal, Report, finish, parser
from edge.bus.address import Address
from edge.bus.client import Client
from edge.bus.messages.facts import SaleCompleted, SaleLine
from edge.till.till import Till

RATES = (1, 50)
HOURS_OF_TRADE = 12
LINES = 3
SETTLED_S = 3.0
"""What was written behind (cursors, lazy classes) is on disk by then."""

Sell = Callable[[int], Awaitable[None]]


def sale(number: int) -> SaleCompleted:
    """A sale of three lines, about 700 bytes as the till sends it."""
    return SaleCompleted(
        business_day_date="2026-05-04",
        operator_id="c1",
        receipt_number=f"1-{number}",
        currency="EUR",
        lines=tuple(
            SaleLine(
                line=line, item="4006381333931", text="Textmarker gelb", quantity="1",
                unit_price_minor=129, amount_minor=129,
            )
            for line in range(1, LINES + 1)
        ),
        total_minor=387,
    )  # fmt: skip


async def paced(sell: Sell, rate: float, seconds: float) -> int:
    """`sell` at an even pace; how many."""
    count, started = round(rate * seconds), time.monotonic()
    for number in range(1, count + 1):
        await sell(number)
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
    return count


def device_written_bytes(folder: Path) -> int | None:
    """What the block device that holds `folder` has written so far; None where there is none to be seen."""
    number = folder.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    with contextlib.suppress(OSError):
        return int(stat.read_text().split()[6]) * 512
    return None


async def ours(rate: float, seconds: float) -> dict[str, float | int | str]:
    """The gateway's figures at this rate."""
    found: dict[str, float | int | str] = {}
    with tempfile.TemporaryDirectory(prefix="tillgate-wear-", dir=Path.cwd()) as name:
        folder = Path(name)
        async with Processes(folder / "log.txt") as processes:
            port = free_port()
            await cloud_broker(processes, port)
            cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {port}\nprofile = "mosquitto"\nconfirm = "broker"\n'
            async with gateway(lanes_toml(1) + cloud, folder=folder, bridge=True) as at:
                till = Till(store="BENCH", lane="1", ledger_path=Path(tempfile.mkdtemp()) / "l.db", address=at.address)
                async with till:
                    raw = 0

                    async def sell(number: int) -> None:
                        nonlocal raw
                        pending = await till.fact(sale(number))
                        raw += len(pending.fact.body)
                        await pending.accepted()

                    await sell(0)
                    raw = 0
                    await asyncio.sleep(SETTLED_S)
                    pids = {name: process.pid for name, process in at.processes.items()}
                    before = {name: written_bytes(pid) for name, pid in pids.items()}
                    device = device_written_bytes(folder)
                    count = await paced(sell, rate, seconds)
                    await asyncio.sleep(SETTLED_S)
                    for name, pid in pids.items():
                        found[f"{name}_bytes_per_sale"] = round((written_bytes(pid) - before[name]) / count)
                    now = device_written_bytes(folder)
                    if device is not None and now is not None:
                        found["device_bytes_per_sale_of_everybody"] = round((now - device) / count)
    total = sum(int(found[f"{name}_bytes_per_sale"]) for name in pids)
    found["sales"] = count
    found["raw_bytes_per_sale"] = round(raw / count)
    found["bytes_per_sale"] = total
    per_day = total * rate * 3600 * HOURS_OF_TRADE
    found["gb_per_day"] = round(per_day / 1e9, 2)
    for kind, years in life_years(per_day).items():
        found[f"card_{kind}_years"] = round(years, 1)
    return {f"at_{rate}_per_s_{key}": value for key, value in found.items()}


_SQLITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE IF NOT EXISTS sales (id TEXT PRIMARY KEY, body TEXT)")
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    db.execute("INSERT INTO sales VALUES (?, ?)", (f"0198c5b2-7c1e-7000-8000-{number:012d}", line))
    print("ok", flush=True)
"""


async def plain_sqlite(rate: float, seconds: float) -> float:
    """Bytes per sale of one commit each into a plain table."""
    assert sqlite3.sqlite_version
    body = sale(1).model_dump_json().encode() + b"\n"
    with tempfile.TemporaryDirectory(prefix="tillgate-wear-", dir=Path.cwd()) as name:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SQLITE, str(Path(name) / "sales.db"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout
        await stdout.readline()

        async def sell(_: int) -> None:
            stdin.write(body)
            await stdout.readline()

        before = written_bytes(child.pid)
        count = await paced(sell, rate, seconds)
        written = written_bytes(child.pid) - before
        stdin.close()
        await child.wait()
    return round(written / count)


async def mosquitto_saving(rate: float, seconds: float) -> float:
    """Bytes per sale of a mosquitto that saves on every change what it keeps for an absent subscriber."""
    with tempfile.TemporaryDirectory(prefix="tillgate-wear-", dir=Path.cwd()) as name:
        folder, port = Path(name), free_port()
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\n"
        )
        async with Processes(folder / "log.txt") as processes:
            process = await processes.start(mosquitto(), "-c", conf)
            while not await answers(port):
                await asyncio.sleep(0.02)
            address = Address(host="127.0.0.1", port=port)
            # Subscribes, leaves, and keeps its session: -E ends it once it is subscribed.
            absent = ("mosquitto_sub", "-p", str(port), "-i", "absent", "-c", "-q", "1", "-t", "sales", "-E")
            await (await processes.start(*absent)).wait()
            body = sale(1).model_dump_json().encode()
            async with Client(address, client_id="till", clean_start=True) as client:
                before = written_bytes(process.pid)
                count = await paced(lambda _: client.publish("sales", body), rate, seconds)
                return round((written_bytes(process.pid) - before) / count)


async def measure(seconds: float) -> Report:
    """All rates, and the peers at the same."""
    report = Report("wear")
    for rate in RATES:
        report.figures |= await ours(rate, seconds)
        report.peers[f"at {rate}/s"] = {
            "sqlite_rollback_journal_bytes_per_sale": await plain_sqlite(rate, seconds),
            "mosquitto_autosave_on_changes_bytes_per_sale": await mosquitto_saving(rate, seconds),
        }
    report.figures["assumed_card_bytes"] = int(CARD_BYTES)
    report.figures["assumed_hours_of_trade_per_day"] = HOURS_OF_TRADE
    report.figures["assumed_write_amplification"] = WRITE_AMPLIFICATION
    report.figures |= {f"assumed_{kind}_cycles": cycles for kind, cycles in CYCLES.items()}
    years = float(report.figures["at_1_per_s_card_high_endurance_years"])
    report.goals = [Goal("years of a high-endurance card at 1 sale/s", years, 5.0, "at least")]
    return report


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=float, default=60.0, help="how long each rate is sold at (default 60)")
    chosen = options.parse_args(arguments)
    return finish(asyncio.run(measure(chosen.seconds)), as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
