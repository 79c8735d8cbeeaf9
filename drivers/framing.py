"""Cuts a stream of bytes into frames: what most line protocols need before they can read anything.

A frame begins with `start` (or, without one, with any byte) and ends with `end`. Bytes between frames, frames cut
off and frames without an end are handed out as `Noise`, each whole, each at most once; nothing grows beyond its bound.
"""

from __future__ import annotations

from drivers.events import Noise

RUBBISH_LIMIT_BYTES = 256


class Frames:
    """The frames of one line. `start` is one byte (several: any of them begins a frame); `end` is one byte or more.

    A `start` within a frame begins a new one, and what was before is Noise. With `seven_bits`, `start` and `end` are
    found whatever bit 7 is (a line of seven bits and parity that was opened as 8N1); the frames keep their bit 7.
    Each byte of `alone` is, between frames, a frame by itself (ACK and NAK); within a frame it is like any other.
    """

    def __init__(
        self, *, end: bytes, start: bytes = b"", alone: bytes = b"", limit_bytes: int = 64, seven_bits: bool = False
    ) -> None:
        self._start = frozenset(start)
        self._alone = frozenset(alone)
        self._end = end
        self._limit_bytes = limit_bytes
        self._mask = 0x7F if seven_bits else 0xFF
        self._frame = bytearray()
        self._rubbish = bytearray()

    @property
    def pending(self) -> bool:
        """True while a frame, or rubbish between frames, is being collected."""
        return bool(self._frame or self._rubbish)

    def push(self, data: bytes) -> list[bytes | Noise]:
        """Take a chunk, split anywhere; return what it ended, in order: frames with start and end, and Noise."""
        out: list[bytes | Noise] = []
        frame, mask, start, alone = self._frame, self._mask, self._start, self._alone
        last, limit_bytes = self._end[-1], self._limit_bytes
        for byte in data:
            bare = byte & mask
            if bare in start:
                out += self.give_up()
            elif bare in alone and not frame:
                out += [*self.give_up(), bytes((byte,))]
                continue
            elif start and not frame:
                self._rubbish.append(byte)
                if len(self._rubbish) >= RUBBISH_LIMIT_BYTES:
                    out += self.give_up()
                continue
            frame.append(byte)
            if bare == last and self._is_whole():
                if self._rubbish:
                    out.append(Noise(bytes(self._rubbish), "bytes outside a frame"))
                    self._rubbish.clear()
                out.append(bytes(frame))
                frame.clear()
            elif len(frame) > limit_bytes:
                out += self.give_up("a frame without an end")
        return out

    def _is_whole(self) -> bool:
        tail = self._frame[-len(self._end) :]
        return tail == self._end or (self._mask != 0xFF and bytes(byte & self._mask for byte in tail) == self._end)

    def give_up(self, reason: str = "cut off") -> list[Noise]:
        """Forget what was begun; return it as Noise."""
        if not self._frame:
            reason = "bytes outside a frame"
        raw = bytes(self._rubbish + self._frame)
        self._rubbish.clear()
        self._frame.clear()
        return [Noise(raw, reason)] if raw else []


def without_parity(raw: bytes, parity: str) -> bytes | None:
    """The seven bits of each byte; None when bit 7 is neither clear throughout nor the parity ("even", "odd", "none").

    A line of seven bits and parity that is opened as 8N1 shows the parity as bit 7 of every byte.
    """
    if not any(byte & 0x80 for byte in raw):
        return raw
    odd = 1 if parity == "odd" else 0
    if parity == "none" or any(byte.bit_count() % 2 != odd for byte in raw):
        return None
    return bytes(byte & 0x7F for byte in raw)
