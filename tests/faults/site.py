"""The whole thing: a store, its tills, the network, HQ, and everything that can be done to them.

    plain tills   ->  store's mosquitto  <-  edge, bridge     (their disk and clock: shim.py)
    library tills ->                              |
                                            Wan  ->  AckRelay  ->  cloud's mosquitto
                                                                       ^
                                     PostgreSQL  <-  2 receivers  ->  Wan, AckRelay

Every process is real and runs as systemd would keep it. The networks and the relays live in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.wan import Wan
from tests.faults.acks import AckRelay, Meddling
from tests.faults.headquarters import TILLGATE, DidNotComeUp, Headquarters, environment
from tests.faults.processes import Kept, a_port
from tests.faults.shim import Shim

STORE = "S0001"
CLASSES = ("critical", "transaction", "operation", "engagement", "telemetry")
UP_WITHIN_S = 60.0
TILLS_FINISH_WITHIN_S = 150.0
STANDS_STILL_S = 60.0  # nothing of the product waits so long before it tries again
SELL_EVERY_MS = 250
PROCESSES = ("postgres", "cloud", "hq-1", "hq-2", "broker", "edge", "bridge")


@dataclass(frozen=True, slots=True)
class TillPlace:
    """A lane, the kind of its till (plain, library) and its ledger."""

    lane: str
    kind: str
    ledger: Path


class Site:
    """Use it as ``async with``: within, everything runs. `cloud`: further lines for [cloud] in store.toml."""

    def __init__(self, folder: Path, *, lanes: int = 4, every_ms: float = SELL_EVERY_MS, cloud: str = "") -> None:
        self.folder = folder
        self.state = folder / "s"
        self.log_dir = folder / "log"
        for place in (self.state, self.log_dir, folder / "tills"):
            place.mkdir(parents=True, exist_ok=True)
        kinds = ("plain" if number % 2 or number == lanes else "library" for number in range(1, lanes + 1))
        self.tills = [
            TillPlace(str(number), kind, folder / "tills" / f"{number}.{'jsonl' if kind == 'plain' else 'db'}")
            for number, kind in enumerate(kinds, 1)
        ]
        self.shim = Shim(self.state)
        self.config = folder / "store.toml"
        self.kills: Counter[str] = Counter()
        self.ended_by_themselves: list[dict[str, Any]] = []
        self.processes: dict[str, Kept] = {}
        self.wan: Wan
        self.acks: AckRelay
        self.hq_line: Wan
        self.hq_acks: AckRelay
        self._every_ms = every_ms
        self._cloud = cloud
        self._ports = {name: a_port() for name in ("bus", "cloud", "probe")}
        self.hq = Headquarters(folder, STORE, self._ports["cloud"])
        self._stack = contextlib.AsyncExitStack()
        self._started = time.monotonic()

    @property
    def store_db(self) -> Path:
        """The journal."""
        return self.state / "store.db"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await asyncio.to_thread(self.hq.postgres.prepare)
        self._keep("postgres", self.hq.postgres.command, user=self.hq.postgres.user, stop_signal=signal.SIGINT)
        await asyncio.to_thread(self.hq.postgres.make_database, UP_WITHIN_S)
        self._keep("cloud", [_mosquitto(), "-c", self._cloud_config()])
        self.acks = await self._stack.enter_async_context(AckRelay(self._ports["cloud"]).running())
        self.hq_acks = await self._stack.enter_async_context(AckRelay(self._ports["cloud"]).running())
        self.wan = await self._stack.enter_async_context(Wan(self.acks.port, probe_port=self._ports["probe"]))
        self.hq_line = await self._stack.enter_async_context(Wan(self.hq_acks.port))
        self._write_config(await self.hq.make_key())
        receive = [*TILLGATE, "hq", "receive", "--url", self.hq.postgres.url]
        for name in ("hq-1", "hq-2"):
            self._keep(name, [*receive, "--broker", f"127.0.0.1:{self.hq_line.port}"])
        self._keep("broker", self._broker_command())
        config: list[str | Path] = ["--config", self.config]
        self._keep("edge", [sys.executable, "-m", "edge.daemon", *config], env=self.shim.env)
        self._keep("bridge", [sys.executable, "-m", "cloud_bridge.daemon", *config], env=self.shim.env)
        for till in self.tills:
            program = f"tests.faults.{till.kind}_till"
            bus: list[str | Path] = ["--port", str(self._ports["bus"]), "--store", STORE, "--lane", till.lane]
            more = ["--ledger", till.ledger, "--every-ms", str(self._every_ms)]
            self._keep(f"till-{till.lane}", [sys.executable, "-m", program, *bus, *more])
        await self._until_facts_arrive()

    def _keep(self, name: str, command: list[str | Path], **options: Any) -> None:
        env = environment(options.pop("env", os.environ))
        kept = Kept(name, command, self.log_dir / f"{name}.log", self._note_end, env=env, **options)
        self.processes[name] = kept
        kept.start()
        self._stack.push_async_callback(kept.stop)

    def _note_end(self, name: str, status: int, wanted: bool) -> None:
        if not wanted:
            at_s = round(time.monotonic() - self._started, 1)
            self.ended_by_themselves.append({"at_s": at_s, "process": name, "status": status})

    async def _until_facts_arrive(self) -> None:
        try:
            async with asyncio.timeout(UP_WITHIN_S):
                while await asyncio.to_thread(self.hq.recorded) == 0:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            words = "\n".join(self.processes[name].last_words() for name in ("edge", "bridge", "hq-1"))
            raise DidNotComeUp(f"no fact reached HQ within {UP_WITHIN_S:g} s\n{words}") from None

    def _cloud_config(self) -> Path:
        file = self.folder / "cloud.conf"
        user = "root" if os.geteuid() == 0 else "nobody"
        file.write_text(
            f"listener {self._ports['cloud']} 127.0.0.1\nallow_anonymous true\npersistence false\nuser {user}\n"
            "max_queued_messages 10000\nset_tcp_nodelay true\nlog_dest stderr\n"
        )
        return file

    def _write_config(self, public_key: str) -> None:
        lanes = "".join(f'[[lanes]]\nid = "{till.lane}"\n' for till in self.tills)
        self.config.write_text(
            f'state_dir = "{self.state}"\n[store]\nid = "{STORE}"\n'
            f"[bus]\nport = 0\nplain_port = {self._ports['bus']}\nadvertise = false\n{lanes}"
            f'[cloud]\nhost = "127.0.0.1"\nport = {self.wan.port}\nprofile = "mosquitto"\n'
            f'price_key = "{public_key}"\n{self._cloud}\n'
            f'probes = ["127.0.0.1:{self._ports["probe"]}"]\n[journal]\nreserve_mb = 1\n'
        )

    def _broker_command(self) -> list[str | Path]:
        """The store's broker with the configuration that `tillgate run` writes."""
        from edge.bus.broker import prepare
        from edge.children import broker_settings
        from edge.config import load

        return list(prepare(broker_settings(load(self.config))))

    # -- what is done to it --------------------------------------------------------------------------------------------

    async def kill(self, target: str) -> bool:
        """SIGKILL a process, as soon as it runs."""
        done = await self.processes[target].kill()
        self.kills[target] += done
        return done

    async def kill_starting(self, target: str, after_ms: int) -> bool:
        """SIGKILL its next life, so long after that begins."""
        kept = self.processes[target]
        done = await kept.kill_next_life(kept.lives, after_ms / 1_000)
        self.kills[target] += done
        return done

    def meddling(self, target: str) -> Meddling:
        """The acknowledgements `down` to the bridge, `up` from it, or the receivers' (`hq`)."""
        return {"down": self.acks.down, "up": self.acks.up, "hq": self.hq_acks.up}[target]

    async def heal(self) -> None:
        """Everything is well again."""
        self.shim.free()
        self.shim.io_error(False)
        self.shim.jump(0)
        self.shim.synced(True)
        self.acks.well_again()
        self.hq_acks.well_again()
        self.wan.shape(rtt_ms=0, up_kbit=0, down_kbit=0)
        await self.wan.restore()
        await self.hq_line.restore()

    # -- looking -------------------------------------------------------------------------------------------------------

    def in_journal(self) -> tuple[str, dict[str, int]]:
        """The journal's epoch and highest sequence per class; empty when it cannot be read now. Blocking."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.store_db}?mode=ro", uri=True, timeout=5)) as db:
                (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
                rows = db.execute("SELECT class, max(seq) FROM facts GROUP BY class").fetchall()
        except (sqlite3.Error, TypeError):
            return "", {}
        return epoch, dict(rows)

    def behind(self) -> int | None:
        """How many facts of the journal HQ has not confirmed; None: one of the two cannot be asked. Blocking."""
        epoch, heads = self.in_journal()
        at_hq = self.hq.contiguous()
        if not epoch or not at_hq:
            return None
        return sum(max(0, head - at_hq.get((epoch, name), 0)) for name, head in heads.items())

    def tracebacks(self) -> dict[str, int]:
        """How many each process logged: what it met and nobody had thought of."""
        counts = {
            name: (self.log_dir / f"{name}.log").read_text(errors="replace").count("Traceback (most recent call last)")
            for name in self.processes
        }
        return {name: count for name, count in counts.items() if count}

    # -- the end -------------------------------------------------------------------------------------------------------

    async def finish_tills(self) -> list[str]:
        """Let the tills end once everything is answered; the lanes whose till did not within the time."""
        names = [f"till-{till.lane}" for till in self.tills]
        ended = await asyncio.gather(*(self.processes[name].finish(TILLS_FINISH_WITHIN_S) for name in names))
        return [name for name, good in zip(names, ended, strict=True) if not good]

    async def settle(self, within_s: float) -> int | None:
        """Wait until HQ has everything and its commands are answered; how much it does not have when time is over."""
        deadline = time.monotonic() + within_s
        moved_at, before = time.monotonic(), (None, None)
        while True:
            behind = await asyncio.to_thread(self.behind)
            now = (behind, await asyncio.to_thread(self.hq.unanswered))
            if now != before:
                moved_at, before = time.monotonic(), now
            if now == (0, 0) or time.monotonic() > min(deadline, moved_at + STANDS_STILL_S):
                return behind
            await asyncio.sleep(0.2)

    async def stop_store(self, within_s: float) -> int | None:
        """Stop edge, let the bridge bring what it said last, stop the bridge; what HQ then does not have."""
        await self.processes["edge"].stop()
        behind = await self.settle(within_s)
        for name in ("bridge", "broker", "hq-1", "hq-2", "cloud"):
            await self.processes[name].stop()
        return behind

    def evidence(self) -> dict[str, Any]:
        """Where the verdict finds what it counts."""
        tills = [{"lane": till.lane, "kind": till.kind, "file": str(till.ledger)} for till in self.tills]
        found = {"store": STORE, "tills": tills, "state": str(self.state), "hq": self.hq.postgres.dsn}
        (self.folder / "evidence.json").write_text(json.dumps(found, indent=1))
        return found


def _mosquitto() -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto (./dev faults does it)")
    return found
