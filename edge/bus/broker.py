"""The store's MQTT broker: mosquitto, from a configuration rendered here; run as a child where systemd does not.

Strategy: everything is a function of `BrokerSettings`; `prepare` writes the files and gives the command. Two listeners:

- a unix socket for the gateway's own processes. Whoever may open the file may do everything: its folder is 0700.
- TLS for tills. A client without a certificate of the store's authority ends at the handshake; with one, its user name
  and its client id are the certificate's common name, the lane. So no lane can take another's place on the bus, each
  has one connection, and access patterns keep it inside its own part.
- where it is wanted, plain MQTT on 127.0.0.1, for what runs on this machine: `./dev run`, a benchmark. There a user
  name is believed. It cannot be put on any other address.

Nothing of the broker is kept on disk. What is retained is published again by its owner on connecting, a fact belongs to
the till until the gateway has answered `accepted`, and a database that is rewritten every half hour wears out the card
and is what was found damaged after power cuts. So a broker that starts afresh loses nothing that was promised.

One limit for sizes, on the whole packet: above it the connection is closed and MQTT 5 clients are told the limit when
they connect. (mosquitto's other limit, on the message alone, would tell an MQTT 3.1.1 till "taken" and drop it.)

Source: mosquitto.conf(5) of mosquitto 2.0; for the ciphers of TLS 1.2 RFC 9325, section 4.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.errors import BusError

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES = 107
"""What Linux takes as the path of a unix socket (unix(7): sun_path)."""

LOOPBACK = "127.0.0.1"
TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only (RFC 9325, 4.2). Of TLS 1.3 every suite is such a one."""

START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0


class BrokerFailed(BusError):
    """The broker cannot be started, or has ended by itself; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """PEM files of the TLS listener: the broker's own certificate and key, the authorities whose certificates of lanes
    are `trusted`, and the lists of what these have `revoked`, one of each authority.
    """

    certificate: Path
    key: Path
    trusted: Path
    revoked: Path

    def missing(self) -> list[Path]:
        """Those that are not there, or may not be read."""
        files = (self.certificate, self.key, self.trusted, self.revoked)
        return [file for file in files if not os.access(file, os.R_OK)]


@dataclass(frozen=True, slots=True)
class TlsListener:
    """Where tills reach the broker from the store's network."""

    files: ServerFiles
    host: str = "0.0.0.0"  # strangers end at the handshake
    port: int = 8883


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """All that the broker's configuration depends on. `state_dir` gets the rendered files.

    `may_write` and `may_read` are access patterns for tills, ``%u`` being the lane. The limits: connections of a
    listener; the largest packet that anyone may send; unacknowledged messages on the way to one client, and queued
    behind those. What does not fit is dropped; a fact belongs to its till until `accepted`, and is sent again. Edge has
    a connection, and so a queue, for each lane: one that runs wild fills its own.
    """

    state_dir: Path
    socket: Path
    tls: TlsListener | None = None
    plain_port: int | None = None
    may_write: tuple[str, ...] = topics.TILL_MAY_WRITE
    may_read: tuple[str, ...] = topics.TILL_MAY_READ
    max_connections: int = 200
    max_packet_bytes: int = 524_288
    max_in_flight: int = 2_000
    max_in_flight_bytes: int = 8_388_608
    max_queued: int = 2_000
    max_queued_bytes: int = 16_777_216
    memory_bytes: int = 268_435_456

    def __post_init__(self) -> None:
        if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES:
            raise ValueError(
                f"the broker's socket {self.socket} has a path of more than {SOCKET_PATH_BYTES} bytes; "
                "choose a shorter state folder"
            )
        if any(character.isspace() for character in str(self.socket)):
            raise ValueError(f"the broker's socket {self.socket} has a space in its path, which mosquitto cannot read")

    @property
    def address(self) -> Address:
        """Where the gateway's own processes connect."""
        return Address(socket=self.socket)

    @property
    def config_file(self) -> Path:
        """The rendered mosquitto.conf."""
        return self.state_dir / "mosquitto.conf"

    @property
    def acl_file(self) -> Path:
        """What tills may do."""
        return self.state_dir / "tills.acl"


def render_config(settings: BrokerSettings) -> str:
    """mosquitto.conf."""
    lines = [
        "# Written by Tillgate at every start: changes here are lost.",
        "per_listener_settings true",
        "# Nothing is kept on disk: see the note on what is promised in the bus documentation.",
        "persistence false",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "sys_interval 60",
        "set_tcp_nodelay true",
        f"max_packet_size {settings.max_packet_bytes}",
        f"max_inflight_messages {settings.max_in_flight}",
        f"max_inflight_bytes {settings.max_in_flight_bytes}",
        f"max_queued_messages {settings.max_queued}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        f"memory_limit {settings.memory_bytes}",
        "max_keepalive 300",
        "# Sessions of tills that never come back are forgotten.",
        "persistent_client_expiration 1d",
    ]
    with contextlib.suppress(KeyError):
        # Started by root, mosquitto would become another user, who cannot read the state folder.
        lines.append(f"user {pwd.getpwuid(os.getuid()).pw_name}")
    lines += ["", f"listener 0 {settings.socket}", "allow_anonymous true"]
    if settings.tls is not None:
        lines += ["", *_tls_listener(settings, settings.tls)]
    if settings.plain_port is not None:
        lines += ["", *_listener(settings, LOOPBACK, settings.plain_port), "allow_anonymous true"]
    return "\n".join(lines) + "\n"


def _listener(settings: BrokerSettings, host: str, port: int) -> list[str]:
    return [f"listener {port} {host}", f"max_connections {settings.max_connections}", f"acl_file {settings.acl_file}"]


def _tls_listener(settings: BrokerSettings, tls: TlsListener) -> list[str]:
    return [
        *_listener(settings, tls.host, tls.port),
        f"certfile {tls.files.certificate}",
        f"keyfile {tls.files.key}",
        f"cafile {tls.files.trusted}",
        f"crlfile {tls.files.revoked}",
        "tls_version tlsv1.2",
        f"ciphers {TLS_1_2_CIPHERS}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
    ]


def render_acl(settings: BrokerSettings) -> str:
    """What a till may do. mosquitto refuses a user name with ``+``, ``#`` or ``/`` wherever ``%u`` stands."""
    lines = ["# Written by Tillgate at every start: changes here are lost."]
    lines += [f"pattern write {pattern}" for pattern in settings.may_write]
    lines += [f"pattern read {pattern}" for pattern in settings.may_read]
    return "\n".join(lines) + "\n"


def prepare(settings: BrokerSettings) -> list[str]:
    """Write the broker's files and give the command that runs it.

    Raises `BrokerFailed` when mosquitto is missing, or a file that it needs for TLS.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/sbin")
    if program is None:
        raise BrokerFailed("mosquitto is not installed; install it: apt-get install mosquitto")
    if settings.tls is not None and (missing := settings.tls.files.missing()):
        raise BrokerFailed(f"the broker has no proof of who it is: {', '.join(map(str, missing))} cannot be read")
    for folder in {settings.state_dir, settings.socket.parent}:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(settings.config_file, render_config(settings).encode())
    _write(settings.acl_file, render_acl(settings).encode())
    return [program, "-c", str(settings.config_file)]


def _write(path: Path, text: bytes) -> None:
    """Replace `path` whole, readable by this user only; what is the same is left, and a full disk bears that.

    What is there and cannot be read gives way; a folder in the place of the file is set aside.
    """
    try:
        if path.read_bytes() == text:
            return
    except IsADirectoryError:
        path.rename(path.with_name(f"{path.name}.aside-{os.urandom(4).hex()}"))
    except OSError:
        pass
    fresh = path.with_suffix(path.suffix + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    fresh.replace(path)


class BrokerProcess:
    """mosquitto as a child of this process. It ends with us, however we end (util-linux's setpriv sees to it)."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=10)
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The running broker's process id."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the broker and wait until it takes connections. Raises `BrokerFailed`."""
        command = prepare(self._settings)
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]
        self._last_lines.clear()
        self._ready.clear()
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            umask=0o077,
        )
        self._reader = asyncio.create_task(self._pass_on_lines(self._process), name="broker log")
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._running(self._process)
        except TimeoutError:
            await self.stop()
            raise BrokerFailed(f"mosquitto takes no connections after {START_WITHIN_S:g} s: {self._said()}") from None
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Wait until the broker ends; raises `BrokerFailed` with its last words."""
        assert self._process is not None
        code = await self._process.wait()
        if self._reader is not None:
            await self._reader
        raise BrokerFailed(f"mosquitto ended (exit status {code}): {self._said()}")

    async def run(self) -> None:
        """Start it and stay with it: something for `keep_running`, with `BrokerFailed` expected."""
        await self.start()
        try:
            await self.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the broker: SIGTERM, and SIGKILL when that does not help."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def _running(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the broker says that it runs: all listeners are open then. Raises `BrokerFailed` when it ends."""
        ended = asyncio.create_task(process.wait(), name="broker end")
        said = asyncio.create_task(self._ready.wait(), name="broker ready")
        try:
            await asyncio.wait([ended, said], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            said.cancel()
        if not self._ready.is_set():
            await self.wait()

    async def _pass_on_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._last_lines.append(line)
            if line.endswith(" running"):
                self._ready.set()
            log.log(logging.ERROR if line.startswith("Error") else logging.DEBUG, "%s", line)

    def _said(self) -> str:
        return " / ".join(line for line in self._last_lines if not line.startswith("Warning")) or "it said nothing"
