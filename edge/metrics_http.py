"""Serves metrics to Prometheus: ``GET /metrics`` over HTTP/1.1, one request a connection, nothing else.

Strategy: a dozen connections at most, each with a bound in bytes and in time, so whoever finds the port can waste
nothing. It listens on 127.0.0.1 unless ``[metrics] host`` says otherwise; there is no password on it.

Source: RFC 9112 (HTTP/1.1), sections 2 and 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import NoReturn

from edge.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger(__name__)

REQUEST_BYTES = 8 * 1024
REQUEST_WITHIN_S = 5.0
CONNECTIONS = 12
LAG_EVERY_S = 1.0


class CannotServe(Exception):
    """The port cannot be had; the text says which."""


async def serve(metrics: Metrics, host: str, port: int | None) -> NoReturn:
    """Answer scrapes and measure the loop's lag, until cancelled; `port` 0 or None: a free one. Raises CannotServe."""
    open_now = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        if open_now >= CONNECTIONS:
            writer.close()
            return
        open_now += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(REQUEST_WITHIN_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(metrics, head))
                    await writer.drain()
        finally:
            open_now -= 1
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port, limit=REQUEST_BYTES)
    except OSError as error:
        raise CannotServe(f"[metrics] {host}:{port} cannot be listened on: {error.strerror or error}") from None
    async with server:
        log.info("metrics on http://%s:%d/metrics", *server.sockets[0].getsockname()[:2])
        await _measure_lag(metrics)


def _response(metrics: Metrics, head: bytes) -> bytes:
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return _answer("400 Bad Request", b"this is no HTTP/1.1\n", "text/plain")
    method, target = parts[0], parts[1].split(b"?", 1)[0]
    if method not in (b"GET", b"HEAD"):
        return _answer("405 Method Not Allowed", b"only GET\n", "text/plain", "Allow: GET, HEAD\r\n")
    if target != b"/metrics":
        return _answer("404 Not Found", b"metrics are on /metrics\n", "text/plain")
    return _answer("200 OK", metrics.text(), CONTENT_TYPE, body=method == b"GET")


def _answer(status: str, content: bytes, kind: str, more: str = "", *, body: bool = True) -> bytes:
    size = len(content)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + (content if body else b"")


async def _measure_lag(metrics: Metrics) -> NoReturn:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))
