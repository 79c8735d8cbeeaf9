"""A live round: a whole store that runs, strangers and a hostile till at its real ports, and a good till beside them.

Strangers send rubbish, spoilt TLS records, and spoilt HTTP inside TLS to the enrolment listener and to the bus. The
hostile till has a certificate, and sends spoilt MQTT packets through mutual TLS. In the end edge and broker must be the
processes that they were, not much larger, and the good till must have been answered every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edge.bus.address import TlsFiles
from tests.access.enrolment_rig import anybody
from tests.access.store_rig import TlsStore, entered, tls_store
from tests.fuzz import mqtt
from tests.fuzz.enrolment_answers import SEEDS, asked
from tests.fuzz.lane_messages import fact, presence, request
from tests.fuzz.mutation import Mutator

GROWTH_KIB = 96 * 1024
"""More than edge or broker may grow by: buffers of some connections, and what Python keeps for later."""
PATIENCE_S = 3.0
CONNECT = mqtt.packet(0x10, mqtt.text("MQTT") + b"\x05\x02\0\x3c" + b"\0" + mqtt.text("x"))
"""MQTT 5, 3.1: clean start, keep alive 60 s."""
FOREIGN = ("#", "tg/v1/#", "$SYS/#", "tg/v1/lanes/+/facts", "tg/v1/technician/#", "$share/a/tg/v1/lanes/1/replies")
SUBSCRIBES = [mqtt.packet(0x82, b"\0\x01\0" + mqtt.text(what) + b"\x01") for what in FOREIGN]


@dataclass
class Round:
    """What it came to: inputs by where they went, answers to the good till, and what must not be."""

    inputs: Counter[str] = field(default_factory=Counter)
    served: int = 0
    findings: list[str] = field(default_factory=list)


async def live(store: TlsStore, seconds: float, seed: int) -> Round:
    """Assail the running `store` for so long."""
    done = Round()
    pids = {name: store.running.pid(name) for name in ("edge", "broker")}
    before = {name: kib_of(pid) for name, pid in pids.items()}
    ports = store.running.config.enrolment.port, store.running.config.bus.port
    good, hostile = store.till("1"), store.till("2")
    files = hostile.files()
    attacks = [
        asyncio.create_task(_strange(done, port, what, Random(seed + number)))
        for number, (port, what) in enumerate((port, what) for port in ports for what in ("rubbish", "tls", "inside"))
    ]
    attacks += [asyncio.create_task(_hostile(done, ports[1], files, Random(seed + 100 + one))) for one in range(2)]
    try:
        async with entered(good) as client, asyncio.timeout(seconds + 120):
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                reply = await good.ask(client, "help", {"operation": "print"})
                if not reply["ok"]:
                    done.findings.append(f"the good till was answered {reply}")
                done.served += 1
                await asyncio.sleep(0.1)
    except (TimeoutError, AssertionError) as error:
        done.findings.append(f"the good till was not served: {error}")
    finally:
        for attack in attacks:
            attack.cancel()
        for ended in await asyncio.gather(*attacks, return_exceptions=True):
            if isinstance(ended, Exception):
                done.findings.append(f"the fuzzer failed: {ended!r}")
    for name, pid in pids.items():
        if store.running.pid(name) != pid:
            done.findings.append(f"{name} was started anew")
        elif (grown := kib_of(pid) - before[name]) > GROWTH_KIB:
            done.findings.append(f"{name} has grown by {grown} KiB")
    for line in store.running.log().splitlines():
        if "Traceback" in line or " CRITICAL " in line:
            done.findings.append(f"edge logged: {line}")
    return done


async def _strange(done: Round, port: int, what: str, random: Random) -> None:
    """One connection after the other, without a certificate."""
    hello, http = Mutator([client_hello()], 1, random.getrandbits(32)), Mutator(SEEDS, 1, random.getrandbits(32))
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                context = anybody() if what == "inside" else None
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                try:
                    if what == "inside":
                        data = random.choice((asked(random), http.next()))
                    else:
                        data = hello.next() if what == "tls" else random.randbytes(random.choice((1, 100, 70_000)))
                    writer.write(data)
                    done.inputs[f"{what} to {port}"] += 1
                    while await reader.read(65_536):
                        pass
                finally:
                    writer.transport.abort()
        await asyncio.sleep(0.02)


async def _hostile(done: Round, port: int, files: TlsFiles, random: Random) -> None:
    """A lane's till that keeps to nothing."""
    packets = Mutator([CONNECT, *SUBSCRIBES, *(make(Random(1)) for make in (fact, request, presence))], 1, 1)
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=files.context(), server_hostname=files.server_name
                )
                try:
                    writer.write(CONNECT if random.random() < 0.9 else packets.next())
                    for _ in range(random.randrange(1, 60)):
                        writer.write(_packet(random, packets))
                        done.inputs["mqtt of a till"] += 1
                        await writer.drain()
                    await reader.read(65_536)
                finally:
                    writer.transport.abort()
        await asyncio.sleep(0.02)


def _packet(random: Random, packets: Mutator) -> bytes:
    choice = random.random()
    if choice < 0.1:
        return random.choice((fact, request, presence))(random)
    if choice < 0.6:
        return _for_lane_2(random)
    return random.choice(SUBSCRIBES) if choice < 0.7 else packets.next()


def _for_lane_2(random: Random) -> bytes:
    """A message on the till's own topics, which the broker lets through."""
    where, payload = random.choice((
        ("facts", b'{"id":"f-1","data":{}}'), ("requests/help", b'{"id":"r-1"}'), ("requests/drawer.open", b"[" * 900),
        ("presence", b'{"online":true}'), ("facts", random.randbytes(200)), ("requests/print", b"\xff" * 60_000),
    ))  # fmt: skip
    return mqtt.publish(
        f"tg/v1/lanes/2/{where}", payload, number=random.randrange(1, 65_535), retain=random.random() < 0.1
    )  # fmt: skip


def client_hello() -> bytes:
    """The first record of a TLS handshake, as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        anybody().wrap_bio(incoming, outgoing, server_hostname="gateway").do_handshake()
    return outgoing.read()


def kib_of(pid: int) -> int:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def alone(seconds: float, seed: int) -> Round:
    """The same with a store of its own."""

    async def whole() -> Round:
        with tempfile.TemporaryDirectory(prefix="fuzz-live-") as folder:
            async with tls_store(Path(folder)) as store:
                return await live(store, seconds, seed)

    return asyncio.run(whole())
