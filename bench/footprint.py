"""Memory and idle CPU of broker, edge and bridge after an hour's worth of sales, and start to first scan delivered.

A whole store is started as `tillgate run` starts it, with a serial scanner on a pty, a receipt printer with a drawer,
and a cloud broker with an HQ receiver behind it. 20 lanes send an hour's sales (180 each), HQ confirms them, and then
nothing happens for a minute. `start_to_first_scan_cpu_s` is the processors' time that the four processes had used by
then: unlike the time that passed, it hardly depends on what else the machine does. Beside it an empty Python process
and one with paho-mqtt alone, to tell what is ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import tty
from contextlib import AsyncExitStack
from pathlib import Path

from bench.accept import LANES, LIMITS, Lane, answered, drained
from bench.gateway import free_port, lanes_toml
from bench.report import Goal, Report, finish, median, parser
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Backoff, Client, Message
from edge.bus.messages.statuses import GatewayStatus
from edge.children import DIE_WITH_PARENT
from edge.config import StoreConfig, load

SALES_PER_LANE_AND_HOUR = 180
PARTS = ("broker", "edge", "bridge")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell the memory of process {pid}")


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peer_mb(code: str) -> float:
    """Memory of a Python process that runs `code` and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nimport sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = pss_mb(process.pid)
        process.terminate()
    return found


class Store:
    """A whole store in a temporary folder, started by `tillgate run`."""

    def __init__(self, root: Path, scanner: str) -> None:
        self.bus = Address(host="127.0.0.1", port=free_port())
        self.cloud_port = free_port()
        self.printer_port = free_port()
        self.file = root / "store.toml"
        self.file.write_text(
            f'state_dir = "state"\n[store]\nid = "BENCH"\n[bus]\nport = 0\nplain_port = {self.bus.port}\n'
            f'[cloud]\nhost = "127.0.0.1"\nport = {self.cloud_port}\n{LIMITS}{lanes_toml(LANES)}'
            f'[[devices]]\nid = "scanner-1"\nprotocol = "serial-scanner"\nlanes = ["1"]\n'
            f'transport = {{ kind = "serial", path = "{scanner}" }}\n'
            f'[[devices]]\nid = "printer-1"\nprotocol = "escpos-printer"\nlanes = ["1"]\n'
            f'transport = {{ kind = "tcp", host = "127.0.0.1", port = {self.printer_port} }}\n'
            f'[[devices]]\nid = "drawer-1"\nprotocol = "printer-drawer"\nlanes = ["1"]\n'
            f'options = {{ printer = "printer-1", open_when = "high" }}\n'
        )
        self.root = root
        self.config: StoreConfig = load(self.file)
        self.log = (root / "log.txt").open("ab")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start one process; its output goes to the log."""
        process = subprocess.Popen([*DIE_WITH_PARENT, *command], stdout=self.log, stderr=self.log, cwd=self.root)
        self.processes.append(process)
        return process

    def surroundings(self) -> None:
        """A receipt printer, the cloud's broker, and HQ behind it."""
        where = ["--state", str(self.root), "--control", str(self.root / "control.sock")]
        self.start(sys.executable, "-m", "drivers.virtual", *where, f"escpos-printer:printer-1:tcp:{self.printer_port}")
        conf = self.root / "cloud.conf"
        conf.write_text(f"listener {self.cloud_port} 127.0.0.1\nallow_anonymous true\n")
        self.start("mosquitto", "-c", str(conf))
        url = f"sqlite:///{self.root / 'hq.db'}"
        self.start(*tillgate("hq", "receive", "--url", url, "--broker", f"127.0.0.1:{self.cloud_port}"))

    def gateway(self) -> subprocess.Popen[bytes]:
        """Broker, edge and bridge."""
        return self.start(*tillgate("run", "--config", str(self.file)))

    def stop(self) -> None:
        """End everything that was started, last first."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            process.wait(20)
        self.log.close()

    def pids(self) -> dict[str, int]:
        """The process ids of the three."""
        run = self.config.state_dir / "run"
        return {part: int((run / f"{part}.pid").read_text()) for part in PARTS}


def tillgate(*arguments: str) -> list[str]:
    """The command line of `tillgate ARGUMENTS`."""
    return [sys.executable, "-m", "edge.cli", *arguments]


async def first_scan_s(store: Store, line: int, started: float) -> float:
    """Seconds from `started` until the till of lane 1 has a scan, while the scanner scans five times a second."""
    arrived = asyncio.get_running_loop().create_future()

    def heard(message: Message) -> None:
        message.ack()
        if not arrived.done():
            arrived.set_result(time.perf_counter())

    till = Client(
        store.bus,
        client_id="bench-1",
        username="1",
        backoff=Backoff(0.05, 0.1),
    )
    till.on_message(topics.lane_scans("1"), heard)
    async with till:
        while not arrived.done():
            if time.perf_counter() - started > 60:
                raise RuntimeError(f"no scan arrived within 60 s; see {store.log.name}")
            os.write(line, b"4006381333931\r")
            await asyncio.wait([arrived], timeout=0.2)
        return float(await arrived) - started


async def an_hour_of_sales(store: Store) -> None:
    """20 lanes send an hour's sales as fast as they are accepted; returns when HQ has confirmed them all."""
    serving, confirmed = asyncio.Event(), asyncio.Event()

    def heard(message: Message) -> None:
        message.ack()
        status = GatewayStatus.model_validate_json(message.payload)
        waiting = sum(backlog.facts for backlog in status.backlog.values())
        confirmed.clear() if waiting else confirmed.set()
        if status.state == "serving":
            serving.set()

    async with AsyncExitStack() as stack:
        watch = Client(Address(socket=store.config.broker_socket), client_id="bench-watch", clean_start=True)
        watch.on_message(topics.GATEWAY_STATUS, heard)
        await stack.enter_async_context(watch)
        async with asyncio.timeout(30):
            await serving.wait()
        lanes = []
        for number in range(1, LANES + 1):
            client = Client(store.bus, client_id=f"bench-{number}", username=str(number), clean_start=True)
            lane = Lane(client, str(number))
            client.on_message(topics.lane_replies(str(number)), lane.answered)
            await stack.enter_async_context(client)
            await client.wait_connected()
            lanes.append(lane)
        for _ in range(SALES_PER_LANE_AND_HOUR // 10):
            for lane in lanes:
                for _ in range(10):
                    lane.send()
            await answered(lanes)
        drained(lanes)
        async with asyncio.timeout(120):
            await asyncio.sleep(3)
            await confirmed.wait()


async def measure(idle_s: float, starts: int) -> dict[str, float | int | str]:
    """All figures."""
    line, slave = os.openpty()
    tty.setraw(slave)
    first: list[float] = []
    start_cpu: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        store = Store(Path(folder), os.ttyname(slave))
        try:
            store.surroundings()
            for attempt in range(starts):
                started = time.perf_counter()
                run = store.gateway()
                first.append(await first_scan_s(store, line, started))
                start_cpu.append(sum(cpu_s(pid) for pid in (*store.pids().values(), run.pid)))
                if attempt < starts - 1:
                    run.send_signal(signal.SIGTERM)
                    await asyncio.to_thread(run.wait, 20)
                    store.processes.remove(run)
            await an_hour_of_sales(store)
            pids = store.pids()
            before = {part: cpu_s(pid) for part, pid in pids.items()}
            await asyncio.sleep(idle_s)
            spent = {part: cpu_s(pid) - before[part] for part, pid in pids.items()}
            memory = {part: pss_mb(pid) for part, pid in pids.items()}
            runner = pss_mb(run.pid)
        finally:
            store.stop()
            os.close(line)
            os.close(slave)
    return {
        "start_to_first_scan_s": median(first),
        "start_to_first_scan_worst_s": max(first),
        "start_to_first_scan_cpu_s": median(start_cpu),
        **{f"{part}_pss_mb": memory[part] for part in PARTS},
        "together_pss_mb": sum(memory.values()),
        **{f"{part}_idle_cpu_percent": 100 * spent[part] / idle_s for part in PARTS},
        "together_idle_cpu_percent": 100 * sum(spent.values()) / idle_s,
        "tillgate_run_itself_pss_mb": runner,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--idle", type=float, default=60.0, help="seconds of idleness to watch (default 60)")
    options.add_argument("--starts", type=int, default=5, help="how often to start (default 5)")
    chosen = options.parse_args(arguments)
    report = Report("footprint")
    report.figures = asyncio.run(measure(chosen.idle, chosen.starts))
    report.peers["bare processes"] = {
        "python_pss_mb": peer_mb(""),
        "python_with_asyncio_and_paho_pss_mb": peer_mb("import asyncio, paho.mqtt.client"),
    }
    report.goals = [
        Goal("memory of the three, MB PSS", float(report.figures["together_pss_mb"]), 150.0),
        Goal("idle CPU, % of one core", float(report.figures["together_idle_cpu_percent"]), 2.0),
        Goal("start to first scan, s", float(report.figures["start_to_first_scan_s"]), 3.0),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
