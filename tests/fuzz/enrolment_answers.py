"""What a stranger says to the enrolment listener, and everything behind it: a real store, authority and audit.

An input is all that a connection brings inside its TLS. Where its proof or signature is the mark below, the fuzzer, who
has the code of the open invitation and a lane's key, puts the right one in its place: so inputs also get past the
proof. Each connection gets exactly one answer with a code that docs/till.md knows; a certificate is issued, and an
invitation used up, only for a proof that the fuzzer itself has put in.

Keys, proofs and transcripts are written from docs/till.md, "Enrolling".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, ClassVar, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edge.access.enrolment_listener import Limits
from tests.access import enrolment_rig, keys
from tests.fuzz.door import Door, Way, World
from tests.fuzz.readers import Contradiction
from tests.fuzz.structure import Structured, twisted, written

LANE = "lane-3"
FREE = Limits(asked=(1e9, 1_000_000_000))
SERVER = "ab" * 32
"""The SHA-256 of the certificate that TLS has shown."""
INVITATION, PROOF = "00112233445566778899aabbccddeeff", "5f" * 32
CERTIFICATE, SIGNATURE = "the certificate of lane-3", "the signature by its key"
"""What the fuzzer replaces by what is right at that moment."""
_SIGNED = ("certificate", "csr", "nonce")
_CODE = re.compile(r"`([a-z_]+)`")
_HEAD = re.compile(rb"(?i)(content-length:[ \t]*)([0-9]+)")


def documented_codes() -> frozenset[str]:
    """The refusals that docs/till.md promises."""
    text = (Path(__file__).parent.parent.parent / "docs" / "till.md").read_text()
    table = text[text.index("| `bad_request`") :]
    rows = table[: table.index("\n\n")].splitlines()
    return frozenset(name for row in rows for name in _CODE.findall(row.split("|")[1]))


class Enrolments(World):
    """The gateway's enrolment end. `heard` counts what it has answered."""

    name = "enrolment"
    together = 1
    heard: ClassVar[Counter[str]] = Counter()

    async def open(self) -> None:
        """A gateway with an open invitation, and a lane that has a certificate."""
        self._codes, self._exit, self._inputs = documented_codes(), AsyncExitStack(), 0
        self._gateway = await self._exit.enter_async_context(enrolment_rig.gateway(self.folder, limits=FREE))
        self._lane_key = keys.lane_key()
        issued = self._gateway.authority.issue_lane(LANE, keys.csr(self._lane_key))
        self._lane_certificate = issued.pem
        await self._invite()

    async def _invite(self) -> None:
        self._code = (await self._gateway.enrolment.invite(LANE)).code
        self._name, self._till, self._back = derived(self._code)

    def feed(self, data: bytes) -> str:
        """Keep it for `settle`."""
        self._data = data
        return "asked"

    async def settle(self, *, alone: bool) -> None:
        """One connection, from its first byte to its answer."""
        self._inputs += 1
        data, proven = self._made_right(self._data)
        gateway, listener = self._gateway, self._gateway.listener
        before = len(gateway.authority.certificates())
        reader, writer = asyncio.StreamReader(), Collecting()
        middle = len(data) * (self._inputs % 8) // 8
        for piece in (data[:middle], data[middle:]):
            reader.feed_data(piece)
        reader.feed_eof()
        await listener._talk(reader, cast(asyncio.StreamWriter, writer), SERVER, "192.0.2.7")
        status, table = answered(writer.said)
        issued = len(gateway.authority.certificates()) - before
        self.heard[f"{status} {table.get('code', sorted(table)[0])}"] += 1
        if status == 200 and "proof" in table:
            self._genuine(data, table, proven)
        elif status == 200 and "certificate" in table:
            if proven != "renew":
                raise Contradiction("a certificate was renewed without a proof")
        elif status == 200 and set(table) != {"store", "fingerprint", "trusted"}:
            raise Contradiction(f"answered with {table}")
        elif status != 200 and (table.get("code") not in self._codes or table["code"] == "faulted"):
            raise Contradiction(f"answered with {status} {table}")
        if issued and not (issued == 1 and proven and status == 200):
            raise Contradiction(f"{issued} certificates were issued, and the answer was {status} {table}")
        if self._code.encode() in writer.said or self._till.hex().encode() in writer.said:
            raise Contradiction("a secret in the answer")
        kept = await gateway.enrolment._invitations.find(self._name)
        if kept is None or (kept.used is not None) != (status == 200 and "proof" in table):
            raise Contradiction(f"the invitation is {kept}, and the answer was {status}")
        if kept.over is not None:
            await self._invite()
        if len(listener._asked._buckets) > FREE.addresses_known or len(gateway.enrolment._guesses) > 10:
            raise Contradiction("it remembers more than it should")

    def _made_right(self, data: bytes) -> tuple[bytes, str]:
        """The input with right proofs in place of the marks, and which one: "enrol", "renew" or ""."""
        head, cut, body = data.partition(b"\r\n\r\n")
        proven = ""
        body = body.replace(INVITATION.encode(), self._name.encode())
        if body.count(PROOF.encode()) == 1:
            asked = _object(body)
            if asked is not None and asked.get("proof") == PROOF:
                fields = ("invitation", "store", "lane", "csr", "nonce")
                if all(isinstance(asked.get(field, ""), str) for field in fields):
                    lines = (
                        "tillgate enrolment v1 till", asked.get("invitation", ""), asked.get("store", ""),
                        asked.get("lane", ""), SERVER, _sha256(asked.get("csr", "")), asked.get("nonce", ""),
                    )  # fmt: skip
                    proof = hmac.new(self._till, _lines(lines), hashlib.sha256).hexdigest()
                    body, proven = body.replace(PROOF.encode(), proof.encode()), "enrol"
        body = body.replace(CERTIFICATE.encode(), json.dumps(self._lane_certificate)[1:-1].encode())
        if body.count(SIGNATURE.encode()) == 1:
            asked = _object(body)
            if asked is not None and all(
                isinstance(asked.get(field), str) for field in ("certificate", "csr", "nonce")
            ):
                lines = (
                    "tillgate renewal v1 till", _sha256(asked["certificate"]), SERVER, _sha256(asked["csr"]),
                    asked["nonce"],
                )  # fmt: skip
                signature = self._lane_key.sign(_lines(lines), ec.ECDSA(hashes.SHA256()))
                body, proven = body.replace(SIGNATURE.encode(), base64.b64encode(signature)), "renew"
        if proven:
            head = _HEAD.sub(lambda found: found[1] + str(len(body)).encode(), head)
        return head + cut + body, proven

    def _genuine(self, data: bytes, table: dict[str, Any], proven: str) -> None:
        """The gateway has let a till in: only by a proof, and with its own."""
        asked = _object(data.partition(b"\r\n\r\n")[2])
        if proven != "enrol" or asked is None:
            raise Contradiction("somebody was let in without a proof")
        lines = (
            "tillgate enrolment v1 gateway", asked["invitation"], table["store"], table["lane"], SERVER,
            _sha256(asked["csr"]), asked["nonce"], _sha256(table["certificate"]), _sha256(table["trusted"]),
            table["nonce"],
        )  # fmt: skip
        if not hmac.compare_digest(hmac.new(self._back, _lines(lines), hashlib.sha256).hexdigest(), table["proof"]):
            raise Contradiction("the gateway's proof does not hold")
        if table["lane"] != LANE:
            raise Contradiction(f"let in as {table['lane']}")

    @property
    def worn(self) -> bool:
        """An audit of so many entries."""
        return self._inputs > 50_000

    async def close(self) -> None:
        """End it."""
        await self._exit.aclose()


class Collecting:
    """The sending half of a connection."""

    def __init__(self) -> None:
        self.said = b""

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.said += data

    async def drain(self) -> None:
        """The other end takes everything."""


def answered(said: bytes) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one HTTP answer and nothing else (RFC 9112)."""
    head, cut, body = said.partition(b"\r\n\r\n")
    found = re.fullmatch(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*((?:\r\n[a-z-]+: [^\r\n]*)*)", head)
    length = re.search(rb"\r\ncontent-length: ([0-9]+)", head)
    if found is None or length is None or not cut or int(length[1]) != len(body):
        raise Contradiction(f"no answer, or not one: {said!r}")
    table = json.loads(body)
    if not isinstance(table, dict):
        raise Contradiction(f"no object: {said!r}")
    return int(found[1]), table


def derived(code: str) -> tuple[str, bytes, bytes]:
    """The invitation's name and the keys of till and gateway: HKDF-SHA256 without salt, 80 bytes (RFC 5869, 2)."""
    made = hmac.new(bytes(32), code.encode(), hashlib.sha256).digest()
    out = block = b""
    for number in (1, 2, 3):
        block = hmac.new(made, block + b"tillgate enrolment v1" + bytes((number,)), hashlib.sha256).digest()
        out += block
    return out[:16].hex(), out[16:48], out[48:80]


def _lines(fields: tuple[str, ...]) -> bytes:
    return "".join(f"{field}\n" for field in fields).encode("utf-8", "surrogatepass")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# -- inputs ------------------------------------------------------------------------------------------------------------


def _requests() -> list[str]:
    """Requests for certificates: good ones, and with keys that are not taken."""
    made: list[Any] = [keys.lane_key() for _ in range(8)]
    made += [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 2_048)]
    texts = [keys.csr(key, "till\0" if number == 3 else "x" * 60).decode() for number, key in enumerate(made)]
    texts.append((Path(__file__).parent / "enrolment.pem").read_text(encoding="ascii"))
    ed = ed25519.Ed25519PrivateKey.generate()
    texts.append(base64.b64encode(ed.public_key().public_bytes_raw()).decode())
    return texts


REQUESTS = _requests()
NONCE = "22" * 32
_SPOILT = ("", "A", "\n", "-----", "=", "\0", "é")


def asked(random: Random) -> bytes:
    """A connection's bytes: a request of either kind, with something wrong in its JSON, its PEM or its head."""
    csr = random.choice(REQUESTS) if random.random() < 0.5 else REQUESTS[0]
    if random.random() < 0.25:
        at = random.randrange(len(csr))
        csr = csr[:at] + random.choice(_SPOILT) + csr[at + random.choice((0, 1, 1, 60)) :]
    if random.random() < 0.7:
        path, body = "/v1/enrol", {
            "v": 1, "invitation": INVITATION, "store": random.choice(("S1", "", "S2")),
            "lane": random.choice((LANE, "", "2")), "csr": csr, "nonce": NONCE, "proof": PROOF,
        }  # fmt: skip
        if random.random() < 0.1:
            body["proof"] = "00" * 32
        if random.random() < 0.1:
            body["invitation"] = random.randbytes(16).hex()
    else:
        path, body = "/v1/renew", {
            "v": 1, "certificate": random.choice((CERTIFICATE, CERTIFICATE, csr)), "csr": csr, "nonce": NONCE,
            "signature": random.choice((SIGNATURE, SIGNATURE, "MEUCIQ==", "A" * 96)),
        }  # fmt: skip
    value: Any = body
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        value = twisted(value, random)
    return _http(random, path, written(value, random))


def _http(random: Random, path: str, body: bytes) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: g", f"Content-Length: {len(body)}"]
    choice = random.random()
    if choice < 0.1:
        head[0] = random.choice((
            f"GET {path} HTTP/1.1", "GET /v1/authority HTTP/1.1", f"POST {path} HTTP/1.0", f"POST {path}?x=1 HTTP/1.1",
            f"PRI {path} HTTP/2.0", "POST  HTTP/1.1", f"POST {path} HTTP/1.1 ", f"POST http://g{path} HTTP/1.1",
            f"{'A' * 9_000} {path} HTTP/1.1", f"POST {path}%00 HTTP/1.1",
        ))  # fmt: skip
    elif choice < 0.2:
        head[-1] = random.choice((
            "Transfer-Encoding: chunked", f"Content-Length: {len(body) - 1}", f"Content-Length: {len(body) + 7}",
            "Content-Length: -1", f"Content-Length: {'9' * 30}", "Content-Length: 0x10", "Content-Length: 20000",
            f"Content-Length: {len(body)}\r\nContent-Length: 3", f"Content-Length: {len(body)}\r\nExpect: 100-continue",
            f"Content-Length: {len(body)}\r\nUpgrade: h2c\r\nConnection: upgrade", "Content-Length: ²",
            "X: " + "y" * 9_000,
        ))  # fmt: skip
        if "chunked" in head[-1] and random.random() < 0.8:
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    elif choice < 0.25:
        body += b"GET /v1/authority HTTP/1.1\r\nHost: g\r\n\r\n"
    return "\r\n".join((*head, "", "")).encode() + body


def _seeds() -> list[bytes]:
    random = Random(7)
    return [asked(random) for _ in range(60)]


SEEDS = _seeds()
ENROLMENTS = {
    "enrolment": Way(lambda: Door(Enrolments), SEEDS, lambda seed: Structured(SEEDS, seed, asked), batch=50, quick=600)
}
"""By name: as `doors.DOORS`."""
