"""Where a broker is, and how one is allowed to talk to it.

Written forms: ``unix:/run/tillgate/broker.sock``, ``mqtt://host:1883``, ``mqtts://host:8883`` (TLS), ``ws://host:80/mqtt``
and ``wss://host:443/mqtt`` (MQTT over WebSockets), and ``host:port`` or ``host`` alone for plain TCP. An IPv6 address
stands in brackets.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
PLAIN_PORT = PORTS["mqtt"]

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which Python's ssl has no name for."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for TLS. `ca` None trusts the system's authorities; `server_name` is what the certificate must say
    (the host when None); `alpn` is what some cloud brokers want on port 443 (for instance ``x-amzn-mqtt-ca``). With
    `any_time` the certificate's dates do not count: for a till whose own clock is wrong, and who says so.

    With `pins` (each the SHA-256 of a certificate's SubjectPublicKeyInfo, base64, as in RFC 7469) only those
    certificates of `ca` are trusted whose key is pinned: the broker's chain ends at one of them, or there is no
    connection. That holds in the handshake itself, before a word is said, on every version of Python and OpenSSL.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    alpn: str | None = None
    any_time: bool = False
    pins: tuple[str, ...] = ()

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """A client's TLS context: server verified, TLS 1.2 or later. Raises OSError (ssl.SSLError is one).

        `with_certificate` False leaves the client's own out, for a server that does not ask for one.
        """
        if self.pins:
            context = ssl.create_default_context(cadata=_pinned(_trusted(self.ca), self.pins))
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a pinned one may be an intermediate's
        else:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if with_certificate and self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        if self.any_time:
            context.verify_flags |= _NO_CHECK_TIME
        if self.alpn is not None:
            context.set_alpn_protocols([self.alpn])
        return context


def _trusted(ca: Path | None) -> bytes:
    """The PEM certificates of `ca`, or the system's."""
    if ca is not None:
        return ca.read_bytes()
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else sorted(Path(paths.capath or "/etc/ssl/certs").glob("*.0"))
    return b"".join(file.read_bytes() for file in files)


def _pinned(pem: bytes, pins: tuple[str, ...]) -> str:
    """Those of `pem` whose key is pinned, as PEM; OSError when there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = [one for one in x509.load_pem_x509_certificates(pem) if pin_of(one) in pins]
    except ValueError as error:
        raise OSError(f"the authorities' file cannot be read: {error}") from error
    if not found:
        raise OSError("none of the authorities' certificates has a pinned key; is the file or the pin old?")
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


def pin_of(certificate: Certificate) -> str:
    """The pin of a certificate's key: SHA-256 of its SubjectPublicKeyInfo in base64 (RFC 7469, 2.4)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@dataclass(frozen=True, slots=True)
class Address:
    """Either `socket` (a unix socket's path) or `host` and `port`, with TLS when `tls` is given; `websocket` is the
    path of the WebSocket that MQTT is spoken in, where it is.
    """

    host: str | None = None
    port: int = PLAIN_PORT
    socket: Path | None = None
    tls: TlsFiles | None = None
    websocket: str | None = None

    def __post_init__(self) -> None:
        if (self.host is None) == (self.socket is None):
            raise ValueError("an address is either a host with a port or the path of a unix socket")
        if self.socket is not None and self.tls is not None:
            raise ValueError("TLS is not spoken on a unix socket")
        if self.websocket is not None and (self.socket is not None or not self.websocket.startswith("/")):
            raise ValueError("a WebSocket needs a host and a path that begins with '/'")
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
        websocket = (parts.path or "/mqtt") if parts.scheme in ("ws", "wss") else None
        if parts.scheme not in PORTS or not parts.hostname or (parts.path.strip("/") and not websocket) or parts.query:
            forms = "mqtt://host:1883, mqtts://host:8883, wss://host:443/mqtt, unix:/path"
            raise ValueError(f"{text!r} is no broker's address; use {forms}")
        if parts.username is not None:
            raise ValueError("a broker's address carries no user name or password; give them beside it")
        secure = parts.scheme in ("mqtts", "wss") or tls is not None
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} has no usable port; ports are 1 to 65535") from error
        return cls(
            host=parts.hostname,
            port=PORTS[_scheme(websocket is not None, secure)] if port is None else port,
            tls=(tls or TlsFiles()) if secure else None,
            websocket=websocket,
        )

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        scheme = _scheme(self.websocket is not None, self.tls is not None)
        return f"{scheme}://{host}:{self.port}{self.websocket or ''}"


def _scheme(websocket: bool, secure: bool) -> str:
    return {(False, False): "mqtt", (False, True): "mqtts", (True, False): "ws", (True, True): "wss"}[websocket, secure]
