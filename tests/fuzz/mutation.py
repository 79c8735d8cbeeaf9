"""New inputs from old ones, cheaply: a microsecond or three each, since a million are wanted of every parser.

One 64-bit random number makes all the choices of an input. Most inputs are a frame with one thing wrong (that is where
checksums and status bits are tried), some are several frames, some are cut, some are mere rubbish.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Seal = Callable[[bytearray], None]
"""Makes the checksum of a changed frame right again, in place."""

_FRAMING = bytes(
    (
        0x01,
        0x02,
        0x03,
        0x04,
        0x05,
        0x06,
        0x0A,
        0x0D,
        0x10,
        0x15,
        0x18,
        0x1B,
        0x1D,
        0x20,
        0x2D,
        0x2E,
        0x30,
        0x3F,
        0x7F,
        0xFF,
    )
)
LONG_BYTES = 40_000


class Mutator:
    """Inputs for one parser. `step_bytes`: inputs are whole multiples of it, and changes are within one step."""

    def __init__(self, seeds: Sequence[bytes], step_bytes: int, seed: int, seal: Seal | None = None) -> None:
        self.corpus = [one for one in seeds if one] or [bytes(step_bytes)]
        self._step = step_bytes
        self._random = random.Random(seed)
        self._seal = seal

    def next(self) -> bytes:
        """One more input."""
        corpus = self.corpus
        bits = self._random.getrandbits(64)
        base = corpus[(bits >> 8) % len(corpus)]
        choice = bits & 31
        size = len(base)
        if choice < 16:  # a byte or two changed; half of them with the checksum made right again
            data = bytearray(base)
            data[(bits >> 24) % size] = (bits >> 40) & 0xFF if bits & 0x20 else _FRAMING[(bits >> 40) % len(_FRAMING)]
            if bits & 0x40:
                data[(bits >> 48) % size] ^= 1 << ((bits >> 45) & 7)
            if self._seal is not None and bits & 0x80:
                self._seal(data)
            return bytes(data)
        if choice < 21:  # two frames, one after the other, perhaps with the first cut off
            other = corpus[(bits >> 24) % len(corpus)]
            return self._whole(base[: (bits >> 40) % (size + 1)]) + other
        if choice < 24:  # cut off
            return self._whole(base[: (bits >> 24) % (size + 1)])
        if choice < 27 and self._step == 1:  # something in between
            at = (bits >> 24) % (size + 1)
            return base[:at] + bits.to_bytes(8, "big")[3 : 4 + ((bits >> 40) & 3)] + base[at:]
        if choice < 29:  # something missing
            at, count = (bits >> 24) % size, 1 + ((bits >> 40) & 3)
            return self._whole(base[:at] + base[at + count :])
        return self._random.randbytes(self._step * (1 + ((bits >> 24) & 15)))

    def long(self) -> bytes:
        """An input far beyond every bound: a frame's middle, again and again, or a frame without an end."""
        base = self.corpus[self._random.randrange(len(self.corpus))]
        middle = self._whole(base[: max(1, len(base) // 2)]) or base
        return self._whole(middle * (LONG_BYTES // len(middle)))

    def _whole(self, data: bytes) -> bytes:
        return data if self._step == 1 else data[: len(data) - len(data) % self._step]
