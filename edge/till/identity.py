"""Who this till is: its key, its certificate and the authorities it believes, in one folder that only it may read.

    identity.pem    the private key, made here and never told to anybody, and the lane's certificate
    trusted.pem     the store's authorities
    identity.json   store, lane, where the gateway was, until when the certificate lasts

Strategy: each file is replaced whole, and key and certificate are one file, so that a power cut leaves either the old
pair or the new one. When `identity.json` is behind, the till renews once more than it had to; nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from edge.bus.address import Address, TlsFiles
from edge.card_guard import guarded
from edge.seal import write_secret

log = guarded(__name__)

PEM, TRUSTED, FACTS = "identity.pem", "trusted.pem", "identity.json"
PORTS = frozenset({"bus_port", "enrol_port"})
LONGEST_LEAD = timedelta(days=30)
SHORTEST_LEAD = timedelta(days=1)


class NoIdentity(Exception):
    """The folder holds no identity that can be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What `folder` says. `host` is where the gateway was when the till enrolled; times are UTC, RFC 3339."""

    folder: Path
    store: str
    lane: str
    server_name: str
    host: str
    bus_port: int
    enrol_port: int
    issued_at: str
    not_after: str

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """Read it; rights that are too wide are narrowed, and said: they must not stop a sale. Raises NoIdentity."""
        try:
            fields = orjson.loads((folder / FACTS).read_bytes())
            identity = cls(folder=folder, **fields)
            for name in (PEM, FACTS):
                _narrowed(folder / name)
            if not (folder / TRUSTED).exists():
                raise FileNotFoundError(2, f"{TRUSTED} is missing")
            if any(not isinstance(value, int if name in PORTS else str) for name, value in fields.items()):
                raise ValueError(f"{FACTS} holds something else")
            identity.renew_at()
            identity.tls().context()
        except FileNotFoundError as error:
            raise NoIdentity(
                f"this till has not enrolled into {folder} ({error.strerror or error}): "
                "ask for an invitation (tillgate lanes invite LANE), then `python -m edge.till enrol CODE`"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise NoIdentity(f"{folder} cannot be read as a till's identity ({error}): enrol again") from None
        return identity

    def save(self, key_pem: bytes, certificate: str, trusted: str) -> None:
        """Put all of it on disk, 0600. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self.folder / TRUSTED, trusted.encode())
        write_secret(self.folder / PEM, key_pem.rstrip() + b"\n" + certificate.encode())
        fields = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_secret(self.folder / FACTS, orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n")

    def believe(self, trusted: str) -> None:
        """Replace the authorities that are believed."""
        write_secret(self.folder / TRUSTED, trusted.encode())

    @property
    def trusted(self) -> str:
        """The authorities, PEM."""
        return (self.folder / TRUSTED).read_text(encoding="ascii")

    @property
    def pem(self) -> bytes:
        """Key and certificate."""
        return (self.folder / PEM).read_bytes()

    def tls(self, *, any_time: bool = False) -> TlsFiles:
        """For the bus. With `any_time` the dates of the gateway's certificate do not count."""
        return TlsFiles(
            ca=self.folder / TRUSTED, certificate=self.folder / PEM, server_name=self.server_name, any_time=any_time
        )

    def bus(self, *, any_time: bool = False) -> Address:
        """Where the bus was when this till enrolled."""
        return Address(host=self.host, port=self.bus_port, tls=self.tls(any_time=any_time))

    def renewed(self, not_after: str, server_name: str | None = None) -> Identity:
        """The same with a new certificate's dates."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return replace(self, issued_at=now, not_after=not_after, server_name=server_name or self.server_name)

    def renew_at(self) -> datetime:
        """When a third of the certificate's life is left, by this till's clock."""
        ends, began = _moment(self.not_after), _moment(self.issued_at)
        return ends - min(LONGEST_LEAD, max(SHORTEST_LEAD, (ends - began) / 3))


def _narrowed(file: Path) -> None:
    """Raises OSError."""
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        file.chmod(0o600)
        log.error(
            "%s could be read by others (its rights were %04o) and is 0600 again: whoever copied it can be this lane"
            " until it is revoked (tillgate lanes revoke) and this till has enrolled anew",
            file,
            mode,
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
