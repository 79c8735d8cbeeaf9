"""Where a broker is, and how one is allowed to talk to it.

Written forms: ``unix:/run/tillgate/broker.sock``, ``mqtt://host:1883``, ``mqtts://host:8883`` (TLS), and ``host:port``
or ``host`` alone for plain TCP. An IPv6 address stands in brackets.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PLAIN_PORT = 1883
TLS_PORT = 8883

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which Python's ssl has no name for."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for TLS. `ca` None trusts the system's authorities; `server_name` is what the certificate must say
    (the host when None); `alpn` is what some cloud brokers want on port 443 (for instance ``x-amzn-mqtt-ca``). With
    `any_time` the certificate's dates do not count: for a till whose own clock is wrong, and who says so.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    alpn: str | None = None
    any_time: bool = False

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """A client's TLS context: server verified, TLS 1.2 or later. Raises OSError (ssl.SSLError is one).

        `with_certificate` False leaves the client's own out, for a server that does not ask for one.
        """
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if with_certificate and self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        if self.any_time:
            context.verify_flags |= _NO_CHECK_TIME
        if self.alpn is not None:
            context.set_alpn_protocols([self.alpn])
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """Either `socket` (a unix socket's path) or `host` and `port`, with TLS when `tls` is given."""

    host: str | None = None
    port: int = PLAIN_PORT
    socket: Path | None = None
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        if (self.host is None) == (self.socket is None):
            raise ValueError("an address is either a host with a port or the path of a unix socket")
        if self.socket is not None and self.tls is not None:
            raise ValueError("TLS is not spoken on a unix socket")
        if self.socket is None and not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port} does not exist; ports are 1 to 65535")

    @classmethod
    def parse(cls, text: str, tls: TlsFiles | None = None) -> Address:
        """An address from one of its written forms. Raises ValueError with the forms that would be right."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            if not path:
                raise ValueError(f"{text!r} names no socket; write unix:/path/of/the/socket")
            return cls(socket=Path(path), tls=tls)
        parts = urlsplit(text if "://" in text else f"mqtt://{text}")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{text!r} is no broker's address; use mqtt://host:1883, mqtts://host:8883, unix:/path")
        if parts.username is not None:
            raise ValueError("a broker's address carries no user name or password; give them beside it")
        secure = parts.scheme == "mqtts" or tls is not None
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} has no usable port; ports are 1 to 65535") from error
        return cls(
            host=parts.hostname,
            port=(TLS_PORT if secure else PLAIN_PORT) if port is None else port,
            tls=(tls or TlsFiles()) if secure else None,
        )

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"
