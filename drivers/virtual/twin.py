"""What every virtual device has: a name, a wire, and a table of what can be done to it.

`do` takes what a person could do to the real thing (scan, load, pull the cable) and answers with a plain
table; a wrong request raises BadRequest and changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from drivers.virtual.wire import Wire

T = TypeVar("T")
Table = dict[str, Any]
Action = Callable[[Mapping[str, Any]], Awaitable[Table | None]]


class BadRequest(Exception):
    """A virtual device was asked for something that it cannot do; the text says what it can."""


class Twin:
    """Base of the virtual devices; subclasses add to `actions` and `state`."""

    kind = "device"

    def __init__(self, name: str, wire: Wire) -> None:
        self.name = name
        self.wire = wire
        self.actions: dict[str, Action] = {
            "cable": self._cable,
            "silence": self._silence,
            "split": self._split,
            "late": self._late,
            "garble": self._garble,
            "noise": self._noise,
            "state": self._state,
        }

    async def open(self) -> None:
        """Put the device on its wire."""
        await self.wire.open(self.received, self.connected)

    async def close(self) -> None:
        """Take the device away."""
        await self.wire.close()

    def received(self, data: bytes) -> None:
        """Take what the host sends."""

    def connected(self) -> None:
        """A host has come (sockets only)."""

    def state(self) -> Table:
        """Everything worth knowing of the device, as plain values."""
        wire = self.wire
        return {
            "kind": self.kind,
            "address": wire.address,
            "cable": "in" if wire.plugged else "out",
            "silent": wire.silent,
            "split": wire.split,
            "garbled": wire.garbled,
            "late_ms": wire.late_ms,
        }

    async def do(self, action: str, arguments: Mapping[str, Any]) -> Table:
        """Do one thing to the device; returns the device's answer, raises BadRequest."""
        act = self.actions.get(action)
        if act is None:
            raise BadRequest(f"{self.name} cannot do {action!r}; it can {', '.join(self.actions)}")
        return await act(arguments) or {}

    async def _cable(self, arguments: Mapping[str, Any]) -> None:
        if one_of(arguments, "to", ("pull", "plug")) == "pull":
            await self.wire.pull()
        else:
            await self.wire.plug()

    async def _silence(self, arguments: Mapping[str, Any]) -> None:
        self.wire.silent = get(arguments, "on", bool)

    async def _garble(self, arguments: Mapping[str, Any]) -> None:
        self.wire.garbled = get(arguments, "on", bool)

    async def _split(self, arguments: Mapping[str, Any]) -> None:
        self.wire.split = get(arguments, "on", bool)

    async def _late(self, arguments: Mapping[str, Any]) -> None:
        self.wire.late_ms = get(arguments, "ms", int)

    async def _noise(self, arguments: Mapping[str, Any]) -> None:
        self.wire.send(get_hex(arguments, "hex") if "hex" in arguments else b"\x00\xfe\x1b\x80\x7f\x07\xff")

    async def _state(self, arguments: Mapping[str, Any]) -> Table:
        return self.state()


def get(arguments: Mapping[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """Read one argument of exactly this type; raises BadRequest."""
    value = arguments.get(key, default)
    if type(value) is not kind:
        raise BadRequest(f"{key} is {value!r}; expected {kind.__name__}")
    return value


def one_of(arguments: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """Read one argument that must be one of `choices`; raises BadRequest."""
    value = arguments.get(key)
    if value not in choices:
        raise BadRequest(f"{key} is {value!r}; expected one of {', '.join(choices)}")
    return str(value)


def get_hex(arguments: Mapping[str, Any], key: str) -> bytes:
    """Read bytes written as hexadecimal digits; raises BadRequest."""
    try:
        return bytes.fromhex(get(arguments, key, str))
    except ValueError:
        raise BadRequest(f"{key} is {arguments[key]!r}; expected hexadecimal digits") from None
