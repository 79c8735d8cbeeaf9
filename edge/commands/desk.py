"""Asks the running gateway over the broker's own socket, as `tillgate devices ...` does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
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


# -- who asks ----------------------------------------------------------------------------------------------------------


def log_in_argument(parser: argparse.ArgumentParser) -> None:
    """``--without-log-in``, for every command that needs a right."""
    parser.add_argument(
        "--without-log-in", action="store_true", help="although nobody is logged in here; recorded as such"
    )


def session_file(config: StoreConfig) -> Path:
    """Where this user's log-in on the box is kept."""
    return config.state_dir / "run" / f"session-{os.getuid()}"


def who_asks(config: StoreConfig, without_log_in: bool) -> dict[str, Any]:
    """What every request says of whoever asks, as `BoxRequest`."""
    session = None
    if not without_log_in:
        with contextlib.suppress(OSError, UnicodeDecodeError):  # nobody is logged in here
            session = session_file(config).read_text(encoding="ascii").strip() or None
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        user = str(os.getuid())
    return {"session": session, "without_log_in": without_log_in, "user": user[:32]}


# -- asking ------------------------------------------------------------------------------------------------------------


class Desk:
    """A connection to the running gateway; made by `desk`."""

    def __init__(self, config: StoreConfig, without_log_in: bool = False) -> None:
        self._config = config
        self._without_log_in = without_log_in
        self.client = Client(
            Address(socket=config.broker_socket),
            client_id=f"technician-{secrets.token_hex(8)}",
            clean_start=True,
            session_expiry_s=0,
        )
        self.client.on_message(topics.TECHNICIAN_REPLIES, self._replied)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, operation: str, parameters: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """The result of one operation. Raises Refused, or TimeoutError when no answer comes."""
        request_id = secrets.token_hex(8)
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        request = {"id": request_id, "deadline_ms": int(deadline_s * 1000), "parameters": parameters}
        request |= who_asks(self._config, self._without_log_in)
        try:
            async with asyncio.timeout(deadline_s + SPARE_S):
                await self.client.publish(topics.technician_request(operation), orjson.dumps(request))
                reply = await answer
        finally:
            del self._waiting[request_id]
        if not reply["ok"]:
            problem = reply["problem"]
            raise Refused(problem["code"], problem["detail"] or problem["title"])
        result: dict[str, Any] = reply["result"]
        return result

    def _replied(self, message: Message) -> None:
        message.ack()
        reply = orjson.loads(message.payload)
        answer = self._waiting.get(reply.get("to"))
        if answer is not None and not answer.done():
            answer.set_result(reply)


@asynccontextmanager
async def desk(
    config: StoreConfig,
    hear: Mapping[str, Callable[[Message], None]] | None = None,
    *,
    without_log_in: bool = False,
) -> AsyncIterator[Desk]:
    """Connect to the running gateway; `hear` takes the messages of each topic. NoGateway when it does not answer."""
    there = Desk(config, without_log_in)
    for topic, heard in (hear or {}).items():
        there.client.on_message(topic, heard)
    try:
        async with there.client:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await there.client.wait_connected()
            yield there
    except TimeoutError:
        raise NoGateway(
            f"no gateway answers on {config.broker_socket}: is it running?"
            " (tillgate run, or systemctl status tillgate.target)"
        ) from None
    except (BusError, OSError) as error:
        raise NoGateway(f"cannot ask {config.broker_socket}: {error}") from None


async def ask(
    config: StoreConfig,
    operation: str,
    parameters: dict[str, Any],
    deadline_s: float,
    *,
    without_log_in: bool = False,
) -> dict[str, Any]:
    """The result of one operation; raises NoGateway or Refused."""
    async with desk(config, without_log_in=without_log_in) as there:
        return await there.ask(operation, parameters, deadline_s)
