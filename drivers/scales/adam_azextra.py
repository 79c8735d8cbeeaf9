r"""Adam Equipment AZextra: a price-computing scale that prints, and is read by what it prints.

Document: Adam Equipment, AZextra user's manual (2011), chapter 3.10 (page 14: commands, line). 600 to 19200 baud (4800
as delivered), 8N1. Printouts as in the manuals of its family: CBC (2009, page 18), CBW (2007, page 19).

    P CR LF     a printout, as its label is set up, such as

                    Date 12/09/2006 CR LF
                    Gross Wt   1.234 kg CR LF          or only   1.234kg CR LF
                    ... CR LF

It prints only a weight that is at rest, above zero and other than the last one that it printed; else it says nothing at
all. So its silence means nothing, and it must not be asked only to see whether it is there. It beeps when it is asked
twice for one weight. It does as told by T and Z but never says so: these are left to its own keys.

The strategy: a printout ends with silence. Among its lines there must be exactly one weight (a number and its unit
alone, perhaps after a word), or one net weight beside the gross one and the tare. A line with anything else is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.events import Event, Noise, Unit, Weight
from drivers.framing import RUBBISH_LIMIT_BYTES, Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

PRINTOUT_LIMIT_BYTES = 1024

_WORD = r"(?P<word>(?:[A-Za-z.: ]*? )??)"  # a letter right before the number may be a digit that noise spoilt
_LINE = re.compile(_WORD + r"(?P<value>\d{1,4}(?:\.\d{1,4})?) ?(?P<unit>kg|lb) ?", re.IGNORECASE)
_LIKE_A_WEIGHT = re.compile(r"\d[^/]{0,2}(?:kg|lb)$", re.IGNORECASE)
_KINDS = {"net": r"(net|nt)\b", "gross": r"(gross|gs)\b", "tare": r"tare\b"}
_UNITS: Mapping[str, Unit] = {"kg": "kg", "lb": "lb"}


@dataclass(frozen=True, slots=True)
class AdamAzextraOptions:
    """Nothing to set: the printout tells all that can be known."""


class AdamAzextra(ScaleProtocol):
    """What the scale prints in; `Weight` and `Noise` out."""

    command_gap_ms = 1000
    answer_ms = 1500
    silence = "unchanged"
    probed = False

    def __init__(self, options: AdamAzextraOptions | None = None) -> None:
        super().__init__(Frames(end=b"\n"))  # nothing is cut by it: a printout is one frame
        self._printout = bytearray()

    def weigh(self) -> bytes:
        """Ask for a printout."""
        return b"P\r\n"

    @property
    def pending(self) -> bool:
        """True while a printout is under way."""
        return bool(self._printout)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; what it means shows when silence has ended the printout."""
        self._printout += data
        noise: list[Event] = []
        while len(self._printout) > PRINTOUT_LIMIT_BYTES:
            noise.append(Noise(bytes(self._printout[:RUBBISH_LIMIT_BYTES]), "a printout without an end"))
            del self._printout[:RUBBISH_LIMIT_BYTES]
        return noise

    def idle(self) -> Sequence[Event]:
        """The printout is whole: what weight is in it."""
        raw = bytes(self._printout)
        self._printout.clear()
        return [_read(raw)] if raw else []

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: what was under way is reported."""
        raw = bytes(self._printout)
        self._printout.clear()
        return [Noise(raw, "cut off")] if raw else []


def _read(raw: bytes) -> Event:
    if not raw.endswith(b"\n"):
        return Noise(raw, "a printout that does not end with a line")
    if any(byte > 0x7E or (byte < 0x20 and byte not in b"\r\n") for byte in raw):
        return Noise(raw, "no text")
    lines = [line.removesuffix("\r").strip(" ") for line in raw.decode("ascii").split("\n")]
    if any("\r" in line for line in lines):
        return Noise(raw, "a line that is broken")
    found = [(_kind(match["word"]), match) for line in lines if (match := _LINE.fullmatch(line))]
    if sum(bool(_LIKE_A_WEIGHT.search(line)) for line in lines) > len(found):
        return Noise(raw, "a weight in the printout that cannot be read")
    weights = dict(found)
    if not found:
        return Noise(raw, "no weight in the printout")
    if len(found) > 1 and (len(weights) < len(found) or "net" not in weights or None in weights):
        return Noise(raw, "not one weight in the printout")
    kind = "net" if len(found) > 1 else found[0][0]
    if kind == "tare":
        return Noise(raw, "a tare alone")
    value, unit = plain_decimal(weights[kind]["value"]), _UNITS[weights[kind]["unit"].lower()]
    if value is None:
        return Noise(raw, "no decimal")
    tare = plain_decimal(weights["tare"]["value"]) if "tare" in weights else None
    tared = tare is None or tare.strip("0.") != ""
    net = None if kind is None else kind == "net" and tared
    return Weight(value, unit, stable=True, net=net, tare=tare if tared else None, raw=raw)


def _kind(word: str) -> str | None:
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, word, re.IGNORECASE)), None)
