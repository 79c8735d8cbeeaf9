"""The certificate with which the store's servers (broker, enrolment, page) prove themselves to tills.

Strategy: `ensure_broker_identity` runs before mosquitto starts, in whatever process starts it, and needs nothing but
the state folder; edge keeps the certificate fresh while everything runs (`authority_care.py`). Key and chain are in one
file, ``run/broker.pem``, so that a crash never leaves a key beside another's certificate; mosquitto reads both from it.

Whatever is wrong with the authority, the broker starts: with the certificate that is there, also when it has expired;
and where there is none, with one that no till believes, so that devices, journal and bridge go on. What a till does not
believe it does not talk to: it keeps its sales until a person has mended the gateway.

mosquitto with ``crlfile`` and ``require_certificate`` reads all of its TLS files again on SIGHUP and forgets what it
had read before, also the keys of session tickets; connections stay (found with 2.0.11 and 2.0.21).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from edge.access.authority import RENEW_LEFT, STAND_IN, Authority
from edge.access.authority_keys import AuthorityFault
from edge.bus.broker import ServerFiles
from edge.config import StoreConfig
from edge.seal import Keyring, NoKey, Seal, write_if_changed
from edge.supervisor import Bug, caught

log = logging.getLogger(__name__)

MAX_NAMES = 40
"""A certificate names so many at most, those of now before those that this box had earlier."""


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """What a TLS listener of the store needs. `fault`: what a person should know, None when all is well."""

    certificate: Path
    """Key and chain in one file; `key` is the same one."""
    trusted: Path
    """The authorities whose lanes are let in."""
    revoked: Path
    fault: str | None = None

    @property
    def key(self) -> Path:
        return self.certificate

    @property
    def files(self) -> ServerFiles:
        """As the broker's configuration wants them."""
        return ServerFiles(self.certificate, self.key, self.trusted, self.revoked)

    def stamp(self) -> tuple[int, ...]:
        """Changes when one of the files was replaced."""
        out: list[int] = []
        for file in (self.certificate, self.trusted, self.revoked):
            try:
                status = file.stat()
            except OSError:
                continue
            out += [status.st_ino, status.st_mtime_ns]
        return tuple(out)

    @classmethod
    def of(cls, state_dir: Path, fault: str | None = None) -> BrokerIdentity:
        """Where the files of the store with this state folder are."""
        access = state_dir / "access"
        return cls(state_dir / "run" / "broker.pem", access / "trusted.pem", access / "revoked.crl", fault)


def open_authority(config: StoreConfig) -> Authority:
    """The authority of this store, made when there has never been one; its `fault` says what is wrong."""
    try:
        seal = Seal(Keyring.find(config.state_dir), "authority")
    except (NoKey, OSError) as error:
        log.critical("the store authority cannot sign: %s", error)
        seal = None
    return Authority.open(config.state_dir / "access", seal, config.store.id)


async def opened_authority(config: StoreConfig) -> Authority:
    """The same on a thread, and whatever happens: a bug in it must not keep edge from serving tills."""
    found = await caught("opening the store authority", asyncio.to_thread(open_authority, config))
    if isinstance(found, Bug):
        fault = "the store authority met a fault of the gateway's own, which is logged: nothing new is signed meanwhile"
        return Authority.faulted(config.state_dir / "access", config.store.id, fault)
    return found


def ensure_broker_identity(config: StoreConfig) -> BrokerIdentity:
    """See that the broker can start: authority, its certificate, the list of revoked ones.

    Call it before each start of mosquitto. `fault` of what is returned is not fatal: it says what a person should mend.
    """
    authority = open_authority(config)
    fault = authority.fault
    identity = BrokerIdentity.of(config.state_dir)
    try:
        identity.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refresh(authority, config, identity)
    except (AuthorityFault, OSError) as error:
        fault = fault or str(error)
        try:
            stand_in(config)
        except OSError as full:
            fault = f"{fault}; {full}"
    return BrokerIdentity.of(config.state_dir, fault)


def refresh(authority: Authority, config: StoreConfig, identity: BrokerIdentity, *, synced: bool = False) -> bool:
    """Give the broker a new certificate if it needs one; whether it got one. Raises AuthorityFault, OSError.

    It needs one when there is none or another file, when a third of its life is left, when it was signed by the former
    authority or by a clock that was ahead, and when this box has names or addresses that are not in it.
    """
    book = authority.book
    if book is None:
        raise AuthorityFault(authority.fault or "the store authority is not open")
    names = names_of(config)
    server = book.server
    if server is not None and server.authority == book.current.fingerprint and set(names) <= set(server.names):
        left = server.not_after - authority.now()
        too_long = synced and server.issued_at > authority.now()
        if left > RENEW_LEFT and not too_long and _digest(identity.certificate) == server.digest:
            return False
    try:
        # An address that comes and goes asks for a new certificate once, not each time.
        had = [name for name in server.names if name not in names] if server is not None else []
        authority.issue_server((*names, *had[: MAX_NAMES - len(names)]), identity.certificate, synced=synced)
    except AuthorityFault:
        if not _usable(identity.certificate, key=True):
            raise
        return False
    return True


def names_of(config: StoreConfig) -> tuple[str, ...]:
    """Every host name and address under which a till may reach this box now."""
    import ifaddr

    host = socket.gethostname()
    names = {host, f"{host.partition('.')[0]}.local", server_name(config.store.id), "localhost", "127.0.0.1", "::1"}
    for adapter in ifaddr.get_adapters():
        for address in adapter.ips:
            if isinstance(address.ip, str):
                names.add(address.ip)
            elif not address.ip[0].startswith("fe80"):
                names.add(address.ip[0])
    wanted = (server_name(config.store.id), host, "localhost", "127.0.0.1")
    rest = sorted(name for name in names if name and name not in wanted)
    return tuple(dict.fromkeys((*wanted, *rest)))[:MAX_NAMES]


def server_name(store: str) -> str:
    """The name that a gateway's certificate always has, whatever its address: what a till asks for in TLS."""
    return f"tillgate-{re.sub('[^A-Za-z0-9]', '-', store)}.local"


def reload_broker(run_dir: Path, why: str) -> bool:
    """Let mosquitto read its TLS files again (SIGHUP), because of `why`; False, which is warned of, when none was told.

    The process of ``broker.pid`` is asked only if it is a mosquitto: a number may have got another owner. No other is
    looked for: nothing else says which mosquitto of this machine is ours.
    """
    file = run_dir / "broker.pid"
    try:
        pid = int(file.read_text())
        name = (Path("/proc") / str(pid) / "comm").read_text().strip()
        if name != "mosquitto":
            raise ValueError(f"process {pid} is {name}")
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        log.warning(
            "the broker was not told (%s): %s names no mosquitto that runs (%s). A broker of `tillgate run` reads"
            " its files when it starts; what something else has started goes on with the former ones until a SIGHUP",
            why,
            file,
            error,
        )
        return False
    return True


def _digest(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def stand_in(config: StoreConfig) -> None:
    """Where something is missing or spoilt that nobody can sign now: files that let mosquitto start, and no till in.

    Raises OSError.
    """
    identity = BrokerIdentity.of(config.state_dir)
    proof = _usable(identity.certificate, key=True)
    lists = _usable(identity.trusted) and _usable(identity.revoked)
    if proof and lists:
        return
    from edge.access import certificates

    made = certificates.make_authority(config.store.id)
    signer = certificates.Signer(made.certificate, made.key)
    key, key_pem = certificates.new_key()
    for folder in (identity.certificate.parent, identity.trusted.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not proof:
        chain = signer.server(config.store.id, names_of(config), key, 1, certificates.NEVER)
        write_if_changed(identity.certificate, (key_pem + chain).encode())
    if not lists:
        # Without the list of revoked ones nobody who was revoked may come back: then nobody is believed.
        never_was = not identity.trusted.exists()
        write_if_changed(identity.trusted, (STAND_IN * never_was + made.certificate).encode())
        write_if_changed(identity.revoked, signer.revoked((), 1).encode())


def _usable(file: Path, *, key: bool = False) -> bool:
    """Whether mosquitto, which reads it by OpenSSL as we do here, can start with this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if key:
            context.load_cert_chain(file)
        else:
            context.load_verify_locations(file)
    except OSError:  # ssl.SSLError is one
        return False
    return True
