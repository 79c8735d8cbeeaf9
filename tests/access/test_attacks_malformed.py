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
