r"""Checkout Dialog 06: Dialog 02 with a challenge, by which the scale makes sure of the software that it talks to.

Documents: Mettler Toledo DIVA service manual, 72191202, 05/2012, 6.1.8 "Dialog 06" (pages 54 and 55); Ohaus Aviator
7000 service manual, V13, 6.1.3 (pages 38 and 40), the same text; Cely PI100 manual, 49TPI10EN04, 7.5 (page 14). Line:
9600 7O1. Weighing is as in `dialog_02.py`; but at times (after power on, after an error, every 50 weighings) the scale
answers a unit price with a challenge instead of ACK:

    EOT STX 01 ESC pppppp ESC ETX         STX 11 ESC 2 zz ETX     checksums, coded with the random number zz (hex)
    EOT STX 10 ESC cccc kkkk ETX          ACK                     (hex in capitals; without the blank)
    EOT ENQ                               STX 11 ESC 1 ETX        valid    | STX 11 ESC 0 ETX     invalid
    EOT STX 01 ...                                                the weighing begins anew

    CS   16 bits: the checksum of the software that is subject to approval
    KW   16 bits: the rest of CS divided by a polynomial that only the makers know ("created by the CRC16 method")
    c    CS rotated left by the first digit of zz             k    KW rotated right by the second digit

What rests on what: record 11, random number, rotations and "rest of the polynomial division" are the manual's. The
layout of record 10, that CS is multiplied by x^16 before the division, that nothing is inverted or reflected, that one
pair is enough and that any CS will do, is how two published open source drivers talk to such scales (Coop IT Easy's for
Odoo, GRAP's for its POS); the manual says 1 to 5 pairs. The polynomial belongs to the maker of the scale and is not
here: it is configuration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.events import Event, ScaleStatus
from drivers.scales.dialog_02 import EOT, ESC, ETX, STX, Dialog02, Dialog02Options

_RECORD_11 = re.compile(rb"11\x1b(?:([01])|2([0-9A-F])([0-9A-F]))")


@dataclass(frozen=True, slots=True)
class Dialog06Options(Dialog02Options):
    """`polynomial` is the constant of the scale's maker, as a number; its highest bit set is the leading term.

    `software_checksum` is CS: what the approval of the software says, if there is one.
    """

    polynomial: int | None = None
    software_checksum: int = 0x5469

    def __post_init__(self) -> None:
        """Refuse what is no polynomial of 32 bits at most, or no checksum of 16 bits."""
        Dialog02Options.__post_init__(self)
        if self.polynomial is not None and not 2 <= self.polynomial < 1 << 32:
            raise ValueError("polynomial: is not a number from 2 to 4294967295; expected what the scale's maker gave")
        if not 0 <= self.software_checksum < 1 << 16:
            raise ValueError(f"software_checksum: is {self.software_checksum}; expected a number from 0 to 65535")


class Dialog06(Dialog02):
    """What the scale answers in; `Weight`, `ScaleStatus`, `Handshake` and `Noise` out."""

    def __init__(self, options: Dialog06Options | None = None) -> None:
        options = options or Dialog06Options()
        super().__init__(options)
        self._polynomial = options.polynomial
        self._checksum = options.software_checksum

    def _record(self, raw: bytes, record: bytes) -> Sequence[Event]:
        match = _RECORD_11.fullmatch(record)
        if match is None:
            return super()._record(raw, record)
        if match[1] == b"1":
            return self._next(raw, self._price_record())
        if match[1] == b"0" or self._polynomial is None:
            return self._end(ScaleStatus(raw, fault="needs_checksum"))
        left, right = int(match[2], 16), int(match[3], 16)
        rest = remainder(self._checksum, self._polynomial)
        coded = f"{rotated_left(self._checksum, left):04X}{rotated_left(rest, 16 - right):04X}"
        return self._next(raw, EOT + STX + b"10" + ESC + coded.encode("ascii") + ETX)


def remainder(checksum: int, polynomial: int) -> int:
    """A CRC16, neither reflected nor inverted, of a `checksum` of 16 bits: the rest of that times x^16."""
    divisor = polynomial << (32 - polynomial.bit_length())
    rest = checksum << 16
    for shift in range(16):
        if rest >> (31 - shift) & 1:
            rest ^= divisor >> shift
    return rest & 0xFFFF


def rotated_left(value: int, bits: int) -> int:
    """`value` (16 bits) rotated left."""
    bits %= 16
    return (value << bits | value >> (16 - bits)) & 0xFFFF
