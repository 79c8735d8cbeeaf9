"""What the fuzzer has found, one input each: fed to the real door once more (`./dev fuzz` looks for others)."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.cursors import Cursors
from cloud_bridge.downlink import MAX_STREAMS, Downlink
from edge.bus import frame
from edge.bus.client import Message
from edge.bus.link import Link
from edge.bus.messages.requests import OPERATIONS
from edge.services import requests
from edge.services.warnings import Warnings
from tests.edge.bus_rig import until
from tests.fuzz.door import close_all
from tests.fuzz.mqtt import publish
from tests.fuzz.runner import Fuzzer
from tests.fuzz.structure import PASSWORD
from tests.fuzz.targets import targets


@pytest.fixture(scope="module", autouse=True)
def _worlds() -> Iterator[None]:
    yield
    close_all()


def given(kind: str, data: bytes) -> list[Any]:
    """What the door makes of one input; raises when it is a finding."""
    return [event for _, events in Fuzzer(targets()[kind], 0).once(data) for event in events]


def asked(operation: str, payload: str) -> bytes:
    return publish(f"tg/v1/lanes/lane-1/requests/{operation}", payload.encode())


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps({"id": "r-1", "parameters": {"code": "1"}, "password": PASSWORD}),
        json.dumps({"id": "r-1", "parameters": {"code": "1", "Pin": PASSWORD}}),
        rf'{{"id": "r-1", "p\u0061ssword": "{PASSWORD}"}}',
        rf'{{"id": "r-1", "parameters": 7, "sess\u0069on": "{PASSWORD}"}}',
        f'{{"id": "r-1", "session"\x10: "{PASSWORD}"}}',
        f'{{"id": "r-1", "password": "\\"{PASSWORD}',
    ],
)
def test_attack_malformed_request_with_a_secret(payload: str) -> None:
    """A till (or who listens for its answers) sends a password or session in a request that cannot be read, escaped or
    half broken: neither answer nor log nor quarantine holds it.
    """
    given("lane-requests", asked("price.lookup", payload))


def test_attack_help_again_and_again() -> None:
    """A till asks `help` without end: the schemas, tens of milliseconds of work, are made once."""
    requests._schema.cache_clear()
    for number in range(3):
        given("lane-requests", asked("help", json.dumps({"id": f"h-{number}", "deadline_ms": 20_000})))
    assert requests._schema.cache_info().misses == len(OPERATIONS)


DEEP = "[" * 900 + "]" * 900


def test_attack_nested_refusal_of_a_strange_gateway() -> None:
    """Whoever answers a till's enrolment in the gateway's place nests his refusal a thousand deep: to the till it is a
    refusal, and it asks the next gateway.
    """
    body = f'{{"code": {DEEP}, "title": {DEEP}, "detail": "no"}}'.encode()
    given("gateway-answer", b"HTTP/1.1 403 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def test_attack_nested_header_from_the_cloud() -> None:
    """A cloud broker nests a downlink message's header a thousand deep: it is refused, and the next one is taken."""
    given("hq-downlink", f'TG1 {{"stream": "commands", "epoch": {DEEP}, "seq": 1}}\n{{}}'.encode())
    given("hq-downlink", f'TG1 {{"stream": "commands", "epoch": "e", "seq": 1, "group": {DEEP}}}\n{{}}'.encode())


def test_attack_websocket_answer_that_is_no_ascii() -> None:
    """A cloud broker answers the WebSocket's handshake with headers that are no ASCII: the link is lost in order."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: U\xbe\r\n\r\n"
    given("websocket", answer)


def test_attack_invitation_with_an_impossible_port() -> None:
    """A QR code names port 0265535: it is refused as the QR code that it is, before anybody is asked."""
    code = "K7QF2M9D3XHT8BWNBSPB"
    (event,) = given("invitation", f"tillgate:enrol?v=1&port=0265535&ca={'5e' * 32}&code={code}".encode())
    assert "port" in event.reason


def test_attack_forged_log_line() -> None:
    """A till gives a reason with a line feed and a terminal's commands in it: the gateway's log has one line of it, and
    nothing in it moves a cursor.
    """
    said = "till 2 hangs\n2026-05-04 09:30:00,000 CRITICAL edge: all is lost\x1b[2J"
    program = (
        "import logging; from edge.startup import start_logging; start_logging();"
        f"logging.getLogger('edge').warning('lane %s took %s over: %s', '1', 'printer-1', {said!r})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert len(ran.stderr.splitlines()) == 1
    assert "\x1b" not in ran.stderr
    assert r"till 2 hangs\n2026" in ran.stderr


def test_attack_warning_with_a_terminals_commands() -> None:
    """A till reports a stranger whose name holds a terminal's commands: `tillgate status` shows it without them."""
    warnings = Warnings()
    warnings.set("stranger_seen", "something at \x1b]0;pwned\x07\x1b[2J10.0.0.1 answers")
    (shown,) = warnings.shown()
    assert shown.text.isprintable()
    assert shown.text.endswith("10.0.0.1 answers")


async def test_attack_streams_without_end(tmp_path: Path) -> None:
    """A cloud broker sends messages of ever more streams: the bridge remembers some dozens and drops the rest, and what
    it knew before goes on.
    """
    cursors = await Cursors.open(tmp_path / "bridge.db")
    handed: list[str] = []
    line = Downlink(
        store="s1", groups=(), cursors=cursors, forward=lambda stream, _: handed.append(stream), ask=lambda _: None
    )
    running = asyncio.create_task(line.run())
    try:
        for number in range(MAX_STREAMS + 300):
            header = {"stream": f"x{number}", "epoch": "e-1", "seq": 1}
            line.on_down(Message("tg/v1/s1/down/x", frame.pack(header, b""), 1, False, 1, None))
        line.on_down(
            Message("tg/v1/s1/down/x", frame.pack({**header, "stream": "x0", "seq": 2}, b""), 1, False, 1, None)
        )
        await until(lambda: handed[-1:] == ["x0"])
        assert len(line.streams) == MAX_STREAMS
        assert handed == [*(f"x{number}" for number in range(MAX_STREAMS)), "x0"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await cursors.close()


def test_attack_hanging_up_behind_the_greeting() -> None:
    """A cloud broker greets and at once breaks the connection, again and again: nothing of them is left behind."""
    assert Fuzzer(targets()["cloud-broker"], 3).stretch(60, inputs=600).findings == []
    gc.collect()
    assert len([one for one in gc.get_objects() if isinstance(one, Link)]) <= 3
