"""Answers to tills that cannot be sent any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.bus.client import Address, Client, Message
from edge.services.replies import Replies


async def test_an_answer_after_the_goodbye_to_the_bus_is_left_to_the_next_life(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(Address(host="127.0.0.1", port=free_port()), client_id="edge")
    async with client:
        pass
    Replies(client.publish_soon).send(Message("tg/v1/lanes/1/facts", b"{}", 1, False, 7, None), "1", b"{}")
    assert "an answer to lane 1 is not sent" in caplog.text
