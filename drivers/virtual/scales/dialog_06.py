"""A virtual checkout scale of Dialog 06 (Mettler Toledo DIVA service manual, 6.1.8: record 11, order of events).

With a `polynomial` it asks for checksums at the first weighing, after 50 weighings and after wrong ones, and weighs for
nobody until they are right. It takes them apart bit by bit: rotates them back and divides, as a CRC16 with that
polynomial. Without one it never asks.
"""

from __future__ import annotations

import random

from drivers.virtual.scales.dialog_02 import VirtualDialog02
from drivers.virtual.wire import Wire

_WEIGHINGS_PER_CHECK = 50


class VirtualDialog06(VirtualDialog02):
    """Options: those of dialog-02, and polynomial (17 bits, decimal; 0: never asks for checksums)."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        unit: str = "kg",
        capacity: str = "15",
        minimum: str = "0.001",
        repeats: bool = False,
        polynomial: int = 0,
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity, minimum=minimum, repeats=repeats)
        self.polynomial = polynomial
        self.checks = 0
        self._until_check = 0
        self._random = ""
        self._valid: bool | None = None

    def take(self, fields: list[str]) -> None:
        """Take a record; 10 brings the checksums that were asked for."""
        if fields[0] != "10":
            super().take(fields)
            return
        text = fields[1] if len(fields) == 2 else ""
        self._valid = bool(self._random) and len(text) in range(8, 41, 8) and self._all_right(text)
        self.wire.send(b"\x06")

    def priced(self, price: str) -> None:
        """Take the unit price, or ask for checksums first."""
        if self.polynomial and self._until_check <= 0:
            self._random = f"{random.randrange(256):02X}"
            self.say(f"11\x1b2{self._random}")
        else:
            super().priced(price)

    def enquired(self) -> None:
        """Say whether the checksums were right, or give the weight."""
        valid, self._valid = self._valid, None
        if valid is None:
            super().enquired()
            return
        self.checks += 1
        self._random = ""
        self._until_check = _WEIGHINGS_PER_CHECK if valid else 0
        self.say(f"11\x1b{1 if valid else 0}")

    def weigh(self, price: int) -> None:
        """Send record 02, if it need not ask for checksums first."""
        if self.polynomial and self._until_check <= 0:
            self.refuse("01")
            return
        self._until_check -= 1
        super().weigh(price)

    def _all_right(self, text: str) -> bool:
        left, right = (int(digit, 16) for digit in self._random)
        return all(self._right(text[at : at + 8], left, right) for at in range(0, len(text), 8))

    def _right(self, pair: str, left: int, right: int) -> bool:
        if pair.upper() != pair or not all(digit in "0123456789ABCDEF" for digit in pair):
            return False
        sum_bits = f"{int(pair[:4], 16):016b}"
        rest_bits = f"{int(pair[4:], 16):016b}"
        sum_bits = sum_bits[16 - left :] + sum_bits[: 16 - left]  # it was rotated left
        rest_bits = rest_bits[right:] + rest_bits[:right]  # it was rotated right
        divisor = f"{self.polynomial:b}"
        work = [int(bit) for bit in sum_bits + "0" * 16]
        for at in range(16):  # division on paper
            if work[at]:
                for offset, bit in enumerate(divisor):
                    work[at + offset] ^= int(bit)
        return work[16:] == [int(bit) for bit in rest_bits]
