"""Where the demo store keeps things, and which ports it uses: everything below one state folder.

Files: ``store.toml`` the configuration, an ordinary one; ``store.db``, ``bridge.db`` the gateway's state; ``hq.db``,
``hq.key`` HQ's; ``tills/LANE.db``, ``LANE.identity`` the tills' own ledgers, keys and certificates; ``cashiers/`` what
the cashiers noted down; ``devices/`` the virtual devices' lines and paper; ``log/``, ``run/`` logs, pid files, sockets.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Self

from demo.processes import CannotRun

HERE = Path(__file__).parent
STORE_ID = "S0001"
LANE_NAMES = ("Express", "Family", "Corner", "Garden", "Drinks", "Bakery")
SOCKET_PATH_BYTES = 100
"""The kernel takes 107 bytes for a unix socket's path."""


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1. `bus` is the plain one, `tls` the tills', `enrol` where they enrol; `printers` by lane
    number where the printer hangs on the network.
    """

    bus: int
    tls: int
    enrol: int
    cloud: int
    wan: int
    probe: int
    printers: tuple[int, ...]

    @classmethod
    def free(cls, printers: int) -> Self:
        """Ports nobody uses at the moment."""
        sockets = []
        try:
            for _ in range(6 + printers):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", 0))
            bus, tls, enrol, cloud, wan, probe, *rest = [one.getsockname()[1] for one in sockets]
        finally:
            for one in sockets:
                one.close()
        return cls(bus, tls, enrol, cloud, wan, probe, tuple(rest))

    def all_free(self) -> bool:
        """Whether they can be used again."""
        for port in (self.bus, self.tls, self.enrol, self.cloud, self.wan, self.probe, *self.printers):
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers themselves do
                try:
                    one.bind(("127.0.0.1", port))
                except OSError:
                    return False
        return True


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane: odd ones have a serial scanner, a network printer and a customer display on a line of its own, even
    ones a keyboard scanner, a serial printer and a display behind that.

    Number 0 is the lane called ``mine``, which no cashier works at: it waits for a till of one's own.
    """

    number: int

    @property
    def id(self) -> str:
        """As the bus knows it."""
        return f"lane-{self.number}" if self.number else "mine"

    @property
    def tag(self) -> str:
        """What its devices' ids end in."""
        return str(self.number) if self.number else "mine"

    @property
    def name(self) -> str:
        """As people know it."""
        return LANE_NAMES[(self.number - 1) % len(LANE_NAMES)] if self.number else "Yours"

    @property
    def networked(self) -> bool:
        """Whether its printer hangs on the network."""
        return self.number % 2 == 1 or not self.number

    @property
    def scanner(self) -> str:
        """Its scanner's id."""
        return f"scanner-{self.tag}"

    @property
    def printer(self) -> str:
        """Its printer's id."""
        return f"printer-{self.tag}"

    @property
    def drawer(self) -> str:
        """Its drawer's id."""
        return f"drawer-{self.tag}"

    @property
    def scale(self) -> str:
        """Its scale's id."""
        return f"scale-{self.tag}"

    @property
    def display(self) -> str:
        """Its customer display's id."""
        return f"display-{self.tag}"


def log_to(places: Places) -> None:
    """Send this process's own log lines to a file beside the others: the terminal belongs to the view."""
    logging.basicConfig(
        filename=places.log / "demo.log", level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )


class Places:
    """Paths below `root`, and the ports. One demo at a time: the folder is locked until `release`.

    `lanes` have cashiers; with `spare` there is one more, without.
    """

    def __init__(self, root: Path, lanes: int, *, spare: bool = False) -> None:
        self.root = root.resolve()
        self.lanes = tuple(Lane(number) for number in range(1, lanes + 1))
        self._equipped = (*self.lanes, Lane(0)) if spare else self.lanes
        self.config = self.root / "store.toml"
        self.store_db = self.root / "store.db"
        self.hq_db = self.root / "hq.db"
        self.hq_key = self.root / "hq.key"
        self.log = self.root / "log"
        self.run = self.root / "run"
        self.tills = self.root / "tills"
        self.cashiers = self.root / "cashiers"
        self.devices = self.root / "devices"
        self.control = self.devices / "control.sock"
        self.broker_socket = self.run / "broker.sock"
        if max(len(os.fsencode(path)) for path in (self.control, self.broker_socket)) > SOCKET_PATH_BYTES:
            raise CannotRun(f"{self.root} is too long a path for sockets: choose a shorter one with --state DIR")
        for folder in (self.log, self.run, self.tills, self.cashiers, self.devices):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise CannotRun(f"a demo store runs in {self.root} already: stop it, or use --state DIR") from None
        self.ports = self._ports()
        (self.root / "bus.port").write_text(f"{self.ports.bus}\n", encoding="utf-8")
        (self.root / "enrol.port").write_text(f"{self.ports.enrol}\n", encoding="utf-8")
        (self.root / "cloud.port").write_text(f"{self.ports.cloud}\n", encoding="utf-8")

    def release(self) -> None:
        """Let another demo use the folder."""
        os.close(self._lock)

    def ledger(self, lane: Lane) -> Path:
        """The till's own ledger."""
        return self.tills / f"{lane.id}.db"

    def identity(self, lane: Lane) -> Path:
        """The till's key and certificate."""
        return self.tills / f"{lane.id}.identity"

    def notes(self, lane: Lane) -> Path:
        """What the cashier of a lane noted down: one JSON line for every print job and drawer that went unusually."""
        return self.cashiers / f"{lane.id}.jsonl"

    def paper(self, lane: Lane) -> Path:
        """The virtual printer's paper: one JSON line per receipt that was cut off."""
        return self.devices / lane.printer / "paper.jsonl"

    def drawer_record(self, lane: Lane) -> Path:
        """The virtual drawer's own record: one JSON line each time it opened."""
        return self.devices / lane.printer / "drawer.jsonl"

    def pid_file(self, name: str) -> Path:
        """The pid file that `tillgate run` writes for broker, edge or bridge."""
        return self.run / f"{name}.pid"

    def write_config(self, price_key: str) -> None:
        """Write store.toml."""
        head = Template((HERE / "store.toml").read_text(encoding="utf-8")).substitute(
            state_dir=self.root,
            store=STORE_ID,
            bus_port=self.ports.bus,
            tls_port=self.ports.tls,
            enrol_port=self.ports.enrol,
            wan_port=self.ports.wan,
            probe_port=self.ports.probe,
            price_key=price_key,
        )
        lane = Template((HERE / "lane.toml").read_text(encoding="utf-8"))
        self.config.write_text(
            head + "".join(lane.substitute(self._lane(one)) for one in self._equipped), encoding="utf-8"
        )

    def write_cloud_config(self) -> Path:
        """Write the configuration of the second mosquitto, which plays the cloud's broker."""
        file = self.root / "cloud.conf"
        lines = (
            "# The demo's cloud broker. It forgets everything when it ends: HQ's database is what counts.",
            f"listener {self.ports.cloud} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            "max_queued_messages 10000",
            "log_dest stderr",
            f"user {'root' if os.geteuid() == 0 else 'nobody'}",
        )
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def device_specs(self) -> list[str]:
        """The virtual devices, as `python -m drivers.virtual` takes them."""
        specs = []
        for lane in self._equipped:
            scanner = "serial-scanner" if lane.networked else "keyboard-scanner"
            port = f":tcp:{self._printer_port(lane)}" if lane.networked else ""
            specs += [
                f"{scanner}:{lane.scanner}",
                f"escpos-printer:{lane.printer}{port}" + ("" if lane.networked else ":display=escpos"),
                f"toledo-8217:{lane.scale}:unit=kg",
            ]
            if lane.networked:
                specs.append(f"cd5220-display:{lane.display}:page=cp858")
        return specs

    def _printer_port(self, lane: Lane) -> int:
        return self.ports.printers[[one for one in self._equipped if one.networked].index(lane)]

    def _lane(self, lane: Lane) -> dict[str, str | int]:
        devices = self.devices
        if lane.networked:
            scanner = ("serial-scanner", f'{{ kind = "serial", path = "{devices}/tty{lane.scanner}" }}')
            printer = f'{{ kind = "tcp", host = "127.0.0.1", port = {self._printer_port(lane)} }}'
        else:
            scanner = ("keyboard-scanner", f'{{ kind = "event-socket", path = "{devices}/{lane.scanner}.events" }}')
            printer = f'{{ kind = "serial", path = "{devices}/tty{lane.printer}" }}'
        idle = f'idle = ["Welcome", "Lane {lane.tag}"]'
        if lane.networked:
            link = f'transport = {{ kind = "serial", path = "{devices}/tty{lane.display}" }}'
            display = ("cd5220-display", f'{link}\noptions = {{ code_page = "cp858", {idle} }}')
        else:
            options = f'{{ printer = "{lane.printer}", code_page = "cp858", {idle} }}'
            display = ("printer-display", f"options = {options}")
        return {
            "lane": lane.id,
            "tag": lane.tag,
            "name": lane.name,
            "devices": str(devices),
            "scanner_protocol": scanner[0],
            "scanner_transport": scanner[1],
            "printer_transport": printer,
            "display_protocol": display[0],
            "display_link": display[1],
            "printer_model": "TM-T88V" if lane.networked else "generic-80",  # with and without proof of printing
        }

    def _ports(self) -> Ports:
        """The ports of last time where they are still free, so that a till of one's own finds the store again."""
        file = self.root / "ports.json"
        printers = sum(lane.networked for lane in self._equipped)
        if file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            ports = Ports(**{**kept, "printers": tuple(kept["printers"])})
            if len(ports.printers) == printers and ports.all_free():
                return ports
        ports = Ports.free(printers)
        file.write_text(json.dumps(asdict(ports)) + "\n", encoding="utf-8")
        return ports
