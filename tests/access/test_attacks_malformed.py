"""What the fuzzer has found, one input each: fed to the real door once more (`./dev fuzz` looks for others)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from edge.bus.messages.requests import OPERATIONS
from edge.services import requests
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
