"""Asks the running gateway over the broker's own socket, as `tillgate devices ...` does."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import orjson

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.errors import BusError
from edge.config import StoreConfig

CONNECT_WITHIN_S = 3.0
SPARE_S = 3.0
"""What an answer may take beyond its own deadline."""


class NoGateway(Exception):
    """Nobody answers; the text says what to look at."""


class Refused(Exception):
    """The gateway answered with a problem; `code` is its stable code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


async def ask(config: StoreConfig, operation: str, parameters: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    """The result of one operation; raises NoGateway or Refused."""
    request_id = secrets.token_hex(8)
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def heard(message: Message) -> None:
        message.ack()
        reply = orjson.loads(message.payload)
        if reply.get("to") == request_id and not answer.done():
            answer.set_result(reply)

    client = Client(
        Address(socket=config.broker_socket),
        client_id=f"technician-{request_id}",
        clean_start=True,
        session_expiry_s=0,
    )
    client.on_message(topics.TECHNICIAN_REPLIES, heard)
    request = {"id": request_id, "deadline_ms": int(deadline_s * 1000), "parameters": parameters}
    try:
        async with client:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await client.wait_connected()
            async with asyncio.timeout(deadline_s + SPARE_S):
                await client.publish(topics.technician_request(operation), orjson.dumps(request))
                reply = await answer
    except TimeoutError:
        raise NoGateway(
            f"no gateway answers on {config.broker_socket}: is it running?"
            " (tillgate run, or systemctl status tillgate.target)"
        ) from None
    except (BusError, OSError) as error:
        raise NoGateway(f"cannot ask {config.broker_socket}: {error}") from None
    if not reply["ok"]:
        problem = reply["problem"]
        raise Refused(problem["code"], problem["detail"] or problem["title"])
    result: dict[str, Any] = reply["result"]
    return result
