"""Which part of the way to HQ is broken: the store's own network, the internet, or the cloud broker.

Strategy: the connection's own error says what was seen; three cheap questions tell where. Has this box a carrier and a
route (`/sys/class/net`, `/proc/net/route`)? If not: ``lan``. Does any probe on the internet answer? If none of several
does: ``wan``. Otherwise, did something at the broker's address speak? Then: ``cloud``.
Asked only when a connection is lost or refused; nothing here runs while the link is up.

Source: design page "Journal, bridge, HQ" (uplink, link cause); proc(5), /proc/net/route.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bus.messages.statuses import Link

PROBE_WITHIN_S = 2.0
ROUTE_UP = 0x1

NO_TLS = "no TLS is spoken on this port; is [cloud] port the right one?"
TLS_HINTS = {
    "key is pinned": "somebody stands in between, or the broker has an authority that is not in [cloud.tls] pins",
    "a pinned key": "[cloud.tls] ca and pins do not fit together",
    "certificate has expired": "the broker's certificate has expired, or this box's clock is wrong",
    "certificate is not yet valid": "this box's clock is behind, or the broker's certificate is of tomorrow",
    "self-signed certificate": "[cloud.tls] ca is not the authority of the broker's certificate",
    "unable to get local issuer": "[cloud.tls] ca is not the authority of the broker's certificate",
    "mismatch": "the broker's certificate is for another name than [cloud] host (or [cloud.tls] server_name)",
    "is not valid for": "the broker's certificate is for another name than [cloud] host (or [cloud.tls] server_name)",
    "WRONG_VERSION_NUMBER": NO_TLS,
    "UNEXPECTED_MESSAGE": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "accept this certificate": "the broker does not accept this store's certificate: is it known there, and valid?",
}
"""What OpenSSL says (X509_verify_cert_error_string(3) and ssl's own) -> what a person can do about it."""

_SPOKE = ("refused", "closed", "connack", "tls")
"""Beginnings of causes that only something alive at the broker's address can give."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`link` for the status, `detail` for a person: what was seen and what to do."""

    link: Link
    detail: str


class Diagnosis:
    """Tells the causes apart for one cloud broker at `host`. `probes` are ``host:port`` pairs on the internet."""

    def __init__(
        self,
        host: str,
        probes: Sequence[str] = (),
        *,
        interfaces: Path = Path("/sys/class/net"),
        routes: Path = Path("/proc/net/route"),
        routes_v6: Path = Path("/proc/net/ipv6_route"),
    ) -> None:
        self._host = host
        self._probes = [split_address(probe) for probe in probes]
        self._interfaces = interfaces
        self._routes = routes
        self._routes_v6 = routes_v6

    async def judge(self, cause: str, detail: str = "") -> Verdict:
        """The verdict on a connection that failed with `cause` (as `edge.bus.client` names causes)."""
        seen = f"{cause}: {detail}" if detail else cause
        if cause == "tls":
            seen = "; ".join([*[hint for said, hint in TLS_HINTS.items() if said in detail][:1], seen])
        if not is_loopback(self._host):
            if not self.carrier():
                return Verdict("lan", f"no network cable or Wi-Fi: check this box's network ({seen})")
            if not self.routed():
                return Verdict("lan", f"no route out: check the store's router and DHCP ({seen})")
        if self._probes:
            if await self._any_probe():
                return Verdict("cloud", f"the internet answers, the cloud broker does not ({seen})")
            return Verdict("wan", f"neither the cloud broker nor any probe answers: ask the line's provider ({seen})")
        if cause.startswith(_SPOKE):
            return Verdict("cloud", f"the cloud broker's address answers, the broker does not serve us ({seen})")
        return Verdict("wan", f"the cloud broker cannot be reached ({seen})")

    def carrier(self) -> bool:
        """Whether any interface but loopback has a link; True where that cannot be told."""
        try:
            names = [entry for entry in self._interfaces.iterdir() if entry.name != "lo"]
        except OSError:
            return True
        for entry in names:
            with contextlib.suppress(OSError):  # an interface that is down refuses to be read
                if (entry / "carrier").read_text().strip() == "1":
                    return True
        return False

    def routed(self) -> bool:
        """Whether there is a route out that is up, IPv4 or IPv6; True where that cannot be told."""
        try:
            lines = self._routes.read_text().splitlines()[1:]
        except OSError:
            return True
        for line in lines:
            fields = line.split()
            if len(fields) > 3 and fields[0] != "lo" and int(fields[3], 16) & ROUTE_UP and self._covers(fields):
                return True
        return self._routed_v6()

    def _routed_v6(self) -> bool:
        """Whether there is an IPv6 default route (prefix length 00) on anything but loopback."""
        with contextlib.suppress(OSError):
            for line in self._routes_v6.read_text().splitlines():
                fields = line.split()
                if len(fields) == 10 and fields[1] == "00" and fields[9] != "lo":
                    return True
        return False

    def _covers(self, fields: list[str]) -> bool:
        """Whether the route goes anywhere (default), or to the broker when that is given by address."""
        destination, mask = (int(fields[index], 16) for index in (1, 7))
        if mask == 0:
            return True
        try:
            host = int.from_bytes(ipaddress.IPv4Address(self._host).packed, "little")
        except ValueError:
            return False
        return host & mask == destination

    async def _any_probe(self) -> bool:
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(_answers(host, port), name=f"probe {host}:{port}") for host, port in self._probes
            ]
        return any(task.result() for task in asked)


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def split_address(text: str, default_port: int = 443) -> tuple[str, int]:
    """``host:port``, ``[v6]:port`` or ``host`` in parts; ValueError when the port is no number from 1 to 65535."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text.strip("[]"), default_port
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: no cable is needed to reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
