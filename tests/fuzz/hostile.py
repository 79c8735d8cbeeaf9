"""What whoever stands between us and others may say: a cloud broker in foreign hands, somebody who answers mDNS or in
the gateway's place, a disk that was written to. Readers, as in `readers`: sense, or a refusal that is promised.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any, cast
from unittest import mock

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from zeroconf.asyncio import AsyncServiceInfo

from cloud_bridge import wire
from cloud_bridge.hq import unpack
from edge.access.audit import Audit
from edge.access.strangers import Strangers
from edge.bus import discovery, frame
from edge.bus.discovery import Found
from edge.bus.errors import Disconnected
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import FactClass
from edge.bus.packets import PUBACK, PUBLISH, Framer, Malformed, decode_properties, decode_puback, decode_publish
from edge.bus.websocket import WebSocket
from edge.journal import chain
from edge.seal import Keyring, MasterKey, Seal, Unsealable
from edge.services import from_hq
from edge.services.from_hq import Believed, NotTaken
from edge.services.warnings import Warnings
from edge.till import enrolling
from edge.till.https import Asked
from tests.fuzz import mqtt
from tests.fuzz.door import Way
from tests.fuzz.enrolment_answers import Collecting, derived
from tests.fuzz.readers import Contradiction, Reader, Refused
from tests.fuzz.structure import Structured, twisted, written

# -- MQTT packets ------------------------------------------------------------------------------------------------------

AGREED_BYTES = 65_536


def packets(data: bytes) -> int:
    """A stream of packets, at once and in pieces; how many there were."""
    middle = max(1, len(data) // 2)
    whole, pieces = _framed(data), _framed(data[:1], data[1:middle], data[middle:])
    if whole != pieces:
        raise Contradiction(f"{whole} at once, {pieces} in pieces")
    found, why = whole
    for header, body in found:
        if len(body) > AGREED_BYTES:
            raise Contradiction(f"a packet of {len(body)} bytes")
        try:
            if header & 0xF0 == PUBLISH:
                _published(header, body)
            elif header & 0xF0 == PUBACK:
                decode_puback(body)
        except Malformed as malformed:
            raise Refused(str(malformed)) from None
    if why:
        raise Refused(why)
    return len(found)


def _framed(*pieces: bytes) -> tuple[list[tuple[int, bytes]], str]:
    framer, found = Framer(AGREED_BYTES), list[tuple[int, bytes]]()
    for piece in pieces:
        try:
            found += framer.feed(piece)
        except Malformed:
            return [], "malformed"  # what was whole before it may be lost with the connection
    return found, ""


def _published(header: int, body: bytes) -> None:
    for version in (4, 5):
        topic, payload, qos, _, number, packed = decode_publish(header, body, version)
        again = mqtt.text(topic) + (number.to_bytes(2, "big") if qos else b"")
        if not body.startswith(again) or not body.endswith(payload) or len(again) + len(payload) > len(body):
            raise Contradiction(f"not what was sent: {topic!r} {payload!r}")
        if version == 5:
            decode_properties(packed)


PACKETS = [
    mqtt.publish("tg/v1/S1/confirmed", b'{"a":1}', properties=bytes((mqtt.EXPIRY, 0, 0, 0, 9))),
    mqtt.publish("tg/v1/lanes/1/facts", b"x" * 300, qos=0, retain=True),
    mqtt.publish("a", b"", properties=bytes((mqtt.RESPONSE_TOPIC,)) + mqtt.text("b") + bytes((11, 0x80, 1))),
    mqtt.publish("a", b"b", properties=bytes((mqtt.USER,)) + mqtt.text("k") + mqtt.text("v") + b"\x09\0\x02ab"),
    mqtt.packet(0x40, b"\0\x07") + mqtt.packet(0x40, b"\0\x07\x97\0") + mqtt.packet(0xD0, b""),
    mqtt.packet(0x20, b"\0\0\x03\x21\0\x0a") + mqtt.packet(0x90, b"\0\x01\0\x01") + mqtt.packet(0xE0, b"\x8b\0"),
    bytes((0x30, 0xFF, 0xFF, 0xFF, 0x7F)), bytes((0x30, 0x80, 0x80, 0x80, 0x80, 0x01)),
]  # fmt: skip

# -- WebSocket frames --------------------------------------------------------------------------------------------------

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY_MARK = b"=the right answer to the key"
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + KEY_MARK + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def websocket(data: bytes) -> bytes:
    """All that the other end says, from its answer to our handshake on; MQTT's bytes in it."""
    outcomes = []
    middle = len(data) // 2
    for pieces in ((data,), (data[:middle], data[middle:])):
        ours = WebSocket("h:443", "/mqtt")
        key = next(line for line in ours.hello().split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        right = base64.b64encode(hashlib.sha1(key.split(b": ")[1] + _GUID).digest())  # noqa: S324  # RFC 6455, 4.2.2
        inside, back = b"", b""
        try:
            for piece in filter(None, pieces):
                came, told = ours.unpack(piece.replace(KEY_MARK, right))
                inside, back = inside + came, back + told
            why = ""
        except Malformed:
            why = "malformed"
        except Disconnected as gone:
            why = gone.cause
        if len(back) > len(data) + 1_024:
            raise Contradiction(f"{len(data)} bytes make us say {len(back)}")
        ours.pack(b"x")
        ours.goodbye()
        outcomes.append((inside, why))
    if (
        bool(outcomes[0][1]) != bool(outcomes[1][1])
        and KEY_MARK[: len(KEY_MARK) // 2] not in data[len(data) // 2 - 40 :][:80]
    ):
        raise Contradiction(f"{outcomes[0]} at once, {outcomes[1]} in pieces")
    if outcomes[0][1]:
        raise Refused(outcomes[0][1])
    return outcomes[0][0]


def _frame(first: int, payload: bytes) -> bytes:
    """A frame of a server, unmasked (RFC 6455, 5.2)."""
    size = len(payload)
    length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes((first,)) + length + payload


FRAMES = [
    AGREED,
    AGREED + _frame(0x82, b"\x20\x03\0\0\0"),
    AGREED + _frame(0x02, b"\x20\x03") + _frame(0x89, b"ping") + _frame(0x80, b"\0\0\0"),
    AGREED + _frame(0x81, b"text") + _frame(0x88, b"\x03\xe8bye"),
    AGREED + _frame(0x82, b"y" * 300) + _frame(0x8A, b"") + _frame(0x88, b""),
    AGREED + b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff" + b"z" * 30,
    AGREED.replace(b"mqtt", b"chat"),
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno.",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]

# -- answers to mDNS ---------------------------------------------------------------------------------------------------


def mdns(data: bytes) -> str:
    """The port, an address, and the TXT record of an answer; then who the stranger is said to be."""
    if len(data) < 6:
        raise Refused("cut off")
    port, address, text = int.from_bytes(data[:2], "big"), data[2:6], data[6:]
    service = AsyncServiceInfo(
        discovery.SECURE, f"x.{discovery.SECURE}", port=port, properties=cast(Any, text), addresses=[address]
    )
    found = discovery._read(service, tls=bool(port & 1))
    if found is None:
        raise Refused("no gateway")
    if found.enrol is not None and not 0 < found.enrol < 65_536:
        raise Contradiction(f"a port {found.enrol}")
    asyncio.run(_judged(found))
    return found.store


async def _judged(found: Found) -> None:
    """Whoever offers no TLS is a stranger: recorded and told, without a question to the network."""
    recorded: list[Recorded] = []

    def report(fact: Recorded, *, also: Any = ()) -> asyncio.Future[None]:
        recorded.append(type(fact).model_validate_json(fact.model_dump_json()))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    strangers = Strangers(
        own=list, port=8883, authorities=frozenset, trusted=cast(Any, None), server_name="x", report=report,
        audit=Audit(report), warnings=Warnings(),
    )  # fmt: skip
    await strangers.judge(Found(found.host, found.port, found.store, False, found.ca, found.addresses, found.enrol))
    if not recorded:
        raise Contradiction("a stranger was not recorded")


def _answer(**text: str) -> bytes:
    pairs = [f"{key}={value}".encode() for key, value in text.items()]
    return b"\x22\xb3\xc0\0\x02\x42" + b"".join(bytes((len(pair),)) + pair for pair in pairs)


ANSWERS = [
    _answer(store="S1", api="1", ca="5e" * 32, enrol="8884"),
    _answer(store="S1", api="1"),
    _answer(store="S1", api="1", ca="x" * 200, enrol="99999"),
    _answer(store="ü\x1b[2J", api="1", ca="\n"),
    _answer(api="1") + b"\x05store\x06store=\0\x03\xff\xfe\xfd",
]

# -- the gateway's answer to a till that enrols ------------------------------------------------------------------------

CODE = "K7QF2M9D3XHT8BWNBSPB"
PROOF = "5f" * 32


def gateway(data: bytes) -> str:
    """An answer over HTTP, perhaps of somebody who has the code: no till is enrolled by it, its key is not there."""
    telling = _told(data)
    try:
        telling.send(None)  # nothing in it waits
    except StopIteration as done:
        return str(done.value)
    raise AssertionError("it waits")


async def _told(data: bytes) -> str:
    writer = Collecting()

    @contextlib.asynccontextmanager
    async def there(*_: Any, **__: Any) -> AsyncIterator[Asked]:
        reader = Asks(writer, data)
        yield Asked("11" * 32, cast(asyncio.StreamReader, reader), cast(asyncio.StreamWriter, writer))

    invitation = enrolling.read(CODE)
    place = enrolling._Place("192.0.2.1", 8884)
    with mock.patch.object(enrolling, "asking", there):
        try:
            await enrolling._ask(place, enrolling.keys_of(CODE), invitation, "S1", "lane-3", "csr")
        except enrolling.NotEnrolled as refused:
            raise Refused(repr(refused.code)) from None
    raise Contradiction("a till took a certificate that is not for its key")


class Asks:
    """Gives the answer to the question that was written, with the right proof in place of the mark."""

    def __init__(self, asked: Collecting, answer: bytes) -> None:
        self._asked, self._answer = asked, answer

    async def read(self, count: int) -> bytes:
        """The next bytes; none: it hung up."""
        answer, self._answer = self._answer, b""
        if answer.count(PROOF.encode()) == 1:
            answer = answer.replace(PROOF.encode(), self._proof(answer))
        self._answer = answer[count:]
        return answer[:count]

    def _proof(self, answer: bytes) -> bytes:
        try:
            question = json.loads(self._asked.said.partition(b"\r\n\r\n")[2])
            told = json.loads(answer.partition(b"\r\n\r\n")[2])
            lines = (
                "tillgate enrolment v1 gateway", question["invitation"], told["store"], told["lane"], "11" * 32,
                _sha256(question["csr"]), question["nonce"], _sha256(told["certificate"]), _sha256(told["trusted"]),
                told["nonce"],
            )  # fmt: skip
            text = "".join(f"{line}\n" for line in lines)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return PROOF.encode()
        return hmac.new(derived(CODE)[2], text.encode("utf-8", "replace"), hashlib.sha256).hexdigest().encode()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


_PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def told(random: Random) -> bytes:
    """An answer of a gateway, true in form but for one thing."""
    value: Any = {
        "store": "S1", "lane": "lane-3", "certificate": _PEM, "trusted": _PEM * 2, "not_after": "2027-01-01T00:00:00Z",
        "server_name": "S1.tillgate", "bus_port": 8883, "nonce": "33" * 32, "proof": PROOF,
    }  # fmt: skip
    status = 200
    if random.random() < 0.2:
        status, value = 403, {"code": "not_proven", "title": "No.", "detail": "", "retry_after_ms": None}
    for _ in range(random.choice((0, 1, 1, 2))):
        value = twisted(value, random)
    body = written(value, random)
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


# -- HQ's word on its way through the cloud ----------------------------------------------------------------------------

_HQ = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_HQ_PUBLIC = base64.b64encode(_HQ.public_key().public_bytes_raw()).decode()
_BELIEVED = Believed([_HQ_PUBLIC], "S1", ["north"])
_SIGNED = base64.b64encode(_HQ.sign(b"never said")).decode()
COMMAND = {
    "command": "0197a3c4-0000-7000-8000-000000000001", "store": "S1", "operation": "device.test",
    "parameters": {"device": "printer-1"}, "at": "2026-05-04T09:30:00.000Z", "expires": "2026-05-04T10:30:00.000Z",
}  # fmt: skip


def from_cloud(data: bytes) -> str:
    """A frame of the downlink and what is signed in it: nothing that HQ has not signed is believed."""
    try:
        delivery = from_hq._delivery(data)
    except ValueError as error:
        raise Refused(str(error)) from None
    try:
        text = _BELIEVED.text_of(delivery.body)
    except NotTaken as error:
        raise Refused(error.code) from None
    if text != "never said":
        raise Contradiction(f"believed: {text!r}")
    return text


def downlink(random: Random) -> bytes:
    """A message of the downlink, signed with HQ's key for another text."""
    body: Any = {"text": json.dumps(COMMAND), "signature": _SIGNED}
    header: Any = {"stream": "commands", "epoch": "0197a3c4", "seq": 1, "group": None}
    if random.random() < 0.3:
        body["text"] = "never said"
    for _ in range(random.choice((0, 1, 1, 2))):
        if random.random() < 0.5:
            body = twisted(body, random)
        else:
            header = twisted(header, random)
    return b"TG1 " + written(header, random) + b"\n" + written(body, random)


# -- what lies sealed on a disk ----------------------------------------------------------------------------------------

_SEAL = Seal(Keyring((MasterKey(bytes(range(32))),), "memory"), "journal")
_PLAIN = b"a fact of a till"
SEALED = [
    _SEAL._head + bytes((number,)) * 12 + _SEAL._current.encrypt(bytes((number,)) * 12, _PLAIN, b"c")
    for number in range(4)
]


def sealed(data: bytes) -> bytes:
    """Opens nothing but what was sealed, byte for byte."""
    try:
        plain = _SEAL.open(data, b"c")
    except Unsealable as error:
        raise Refused(str(error)) from None
    if data not in SEALED or plain != _PLAIN:
        raise Contradiction(f"opened: {plain!r}")
    return plain


# -- a store's batches at HQ's receiver --------------------------------------------------------------------------------


def batch(data: bytes) -> int:
    """A batch: refused, or its chain is what a second reading of the bodies makes it."""
    try:
        found = unpack.unpack(data, "S1")
    except wire.BadBatch as error:
        raise Refused(str(error)[:40]) from None
    if found.batch.prev is not None and not found.omitted:
        last = found.batch.prev
        for body in found.batch.bodies:
            last = hashlib.sha256(last + body).digest()
        if found.sound != (last == found.batch.head):
            raise Contradiction("sound and not so")
    return len(found.batch.bodies)


def _batches() -> Iterator[bytes]:
    bodies = tuple(
        json.dumps(
            {"data": {"a": "x" * 40 * number}, "id": f"f{number}", "source": "/stores/S1/lanes/1",
             "tgclass": "operation", "tgseq": number,
             "time": "2026-05-04T09:30:00.000Z", "type": "tillgate.sale.completed.v1"},
            separators=(",", ":"),
        ).encode()
        for number in (1, 2, 3)
    )  # fmt: skip
    head = bytes(32)
    for body in bodies:
        head = chain.link(head, body)
    one = wire.Batch("S1", FactClass("operation"), "e-1", 1, bytes(32), head, bodies, keys=(bytes(range(32)),))
    yield wire.Encoder().encode(one)
    text = b"[" + b",".join(bodies) + b"]"
    header = wire._header(one, one.last, "none")
    yield frame.pack(header, text)
    yield frame.pack({**header, "encoding": "zstd"}, zstandard.ZstdCompressor(write_content_size=False).compress(text))
    yield wire.encode_omission(one, "too large")


BATCHES = list(_batches())


def _structured(make: Any) -> dict[str, Any]:
    random = Random(11)
    seeds = [make(random) for _ in range(30)]
    return {"seeds": seeds, "mutator": lambda seed: Structured(seeds, seed, make)}


HOSTILE = {
    "mqtt-packets": Way(lambda: Reader(packets), PACKETS),
    "websocket": Way(lambda: Reader(websocket), FRAMES, quick=1_000, batch=100),
    "mdns-answer": Way(lambda: Reader(mdns), ANSWERS, quick=1_000, batch=100),
    "gateway-answer": Way(lambda: Reader(gateway), **_structured(told), quick=1_000, batch=100),
    "hq-downlink": Way(lambda: Reader(from_cloud), **_structured(downlink)),
    "sealed": Way(lambda: Reader(sealed), SEALED),
    "store-batch": Way(lambda: Reader(batch), BATCHES),
}
"""By name: as `doors.DOORS`."""
