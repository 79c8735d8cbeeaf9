"""A whole store under the shim: `tillgate run` with its broker, edge and bridge, tills on the bus, faults below state.

The processes are the real ones, started as a person starts them; what ends is started again by the real supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.sealed import OF_JOURNAL, teach
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.facts import SaleCompleted, SaleLine
from edge.bus.messages.statuses import DeviceStatus, GatewayStatus
from edge.config import StoreConfig, load
from edge.till.till import Till
from tests.faults.shim import Shim

STORE = "0042"
WITHIN_S = 90.0
ROOT = Path(__file__).parents[2]


async def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """Wait for `condition` to be true; what it gave."""
    try:
        async with asyncio.timeout(within_s):
            while not (found := condition()):
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


@dataclass
class RunningStore:
    """A store that runs. `heard` are its statuses, the newest last; `devices` the newest of each device."""

    config: StoreConfig
    shim: Shim
    logs: Path
    ledgers: Path
    heard: list[GatewayStatus] = field(default_factory=list)
    devices: dict[str, DeviceStatus] = field(default_factory=dict)

    @property
    def status(self) -> GatewayStatus:
        return self.heard[-1]

    async def state(self, wanted: str, within_s: float = WITHIN_S) -> GatewayStatus:
        """Wait until the gateway says that it is in this state."""

        def there() -> bool:
            return bool(self.heard) and self.status.state == wanted

        await until(there, f"state {wanted}; heard {[s.state for s in self.heard]}\n{self.log()[-3000:]}", within_s)
        return self.status

    @property
    def bus_port(self) -> int:
        """Where its tills are let in."""
        assert self.config.bus.plain_port is not None
        return self.config.bus.plain_port

    def till(self, lane: str = "1") -> Till:
        address = Address(host="127.0.0.1", port=self.bus_port)
        return Till(store=STORE, lane=lane, ledger_path=self.ledgers / f"{lane}.db", address=address)

    def pid(self, name: str) -> int:
        """The process that runs now, 0 while it is being started again."""
        try:
            return int((self.config.state_dir / "run" / f"{name}.pid").read_text() or 0)
        except FileNotFoundError:
            return 0

    def log(self, name: str = "edge") -> str:
        file = self.logs / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the journal holds now, read beside the running edge."""
        db = sqlite3.connect(f"file:{self.config.store_db}?mode=ro", uri=True, timeout=10)
        teach(db, self.config.store_db)
        try:
            return db.execute(sql, parameters).fetchall()
        finally:
            db.close()


@contextlib.asynccontextmanager
async def running_store(
    folder: Path, tables: str = "", *, before: Callable[[Shim], None] = lambda _: None, env: Mapping[str, str] = {}
) -> AsyncIterator[RunningStore]:
    """A store with two lanes and these TOML `tables`, in `folder`; `before` turns faults on before it starts."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    file = folder / "store.toml"
    if not file.exists():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        file.write_text(
            f'state_dir = "state"\n[store]\nid = "{STORE}"\n[bus]\nport = 0\nplain_port = {port}\nadvertise = false\n'
            f'[[lanes]]\nid = "1"\n[[lanes]]\nid = "2"\n{tables}'
        )
    shim = Shim(state, folder / "faults")
    before(shim)
    logs = folder / "logs"
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "edge.cli", "run", "--config", str(file),
         "--log-dir", str(logs)],
        env=shim.env | dict(env), cwd=ROOT, stderr=(folder / "run.log").open("ab"),
    )  # fmt: skip
    store = RunningStore(load(file), shim, logs, folder)
    try:
        async with _watch(store):
            yield store
    finally:
        shim.free()
        shim.io_error(False)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)


@dataclass(frozen=True)
class Line:
    """A serial scanner's other end."""

    master: int
    toml: str

    def scan(self, code: str) -> None:
        os.write(self.master, f"{code}\r".encode())


@contextlib.asynccontextmanager
async def scanner() -> AsyncIterator[Line]:
    """A scanner of lane 1 on a pseudo terminal."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield Line(
            master,
            '[[devices]]\nid = "scanner-1"\nprotocol = "serial-scanner"\nlanes = ["1"]\n'
            f'transport = {{ kind = "serial", path = "{os.ttyname(slave)}" }}\n',
        )
    finally:
        os.close(master)
        os.close(slave)


@contextlib.asynccontextmanager
async def _watch(store: RunningStore) -> AsyncIterator[None]:
    def heard(message: Message) -> None:
        message.ack()
        store.heard.append(GatewayStatus.model_validate_json(message.payload))

    def device(message: Message) -> None:
        message.ack()
        told = DeviceStatus.model_validate_json(message.payload)
        store.devices[told.device] = told

    client = Client(
        Address(socket=store.config.broker_socket), client_id=f"watch-{secrets.token_hex(4)}", clean_start=True
    )
    client.on_message(topics.GATEWAY_STATUS, heard)
    client.on_message(topics.DEVICES_STATUS_ANY, device)
    async with client:
        yield


def sale(number: int = 1, lines: int = 1) -> SaleCompleted:
    """A sale as a till reports it; a line is about 150 bytes."""
    return SaleCompleted(
        business_day_date="2026-05-04",
        operator_id="7",
        receipt_number=f"R{number}",
        currency="EUR",
        lines=tuple(
            SaleLine(
                line=line, item="4006381333931", text="Highlighter, yellow", quantity="1",
                unit_price_minor=125, amount_minor=125,
            )
            for line in range(1, lines + 1)
        ),
        total_minor=125 * lines,
    )  # fmt: skip


def facts_by_type(store: RunningStore, type_: str) -> list[dict[str, Any]]:
    """The data of the journalled facts of this type, in order."""
    rows = store.rows(f"SELECT {OF_JOURNAL} FROM facts WHERE type = ? ORDER BY row", type_)
    return [json.loads(body)["data"] for (body,) in rows]
