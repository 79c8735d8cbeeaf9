r"""Keyboard scanners: `input_event` records of the kernel in, `Scan` out.

One record, in the machine's own byte order and word size (linux/input.h, struct input_event):

    long seconds | long microseconds | u16 type | u16 code | s32 value        24 bytes on 64 bits, 16 on 32

Type 1 is a key: value 1 pressed, 0 released, 2 repeated. Type 0 code 0 (SYN_REPORT) ends a packet. Type 0 code 3
(SYN_DROPPED) says that the kernel had to throw events away; "client should ignore all events up to and including
next SYN_REPORT event and query the device to obtain its current state" (kernel, input/event-codes.rst). Here more is
ignored: what has been collected and everything up to the next end key is a shorter code than the one on the label, so
it is discarded and reported once. Held keys count as released then; whether Caps Lock is on cannot be asked (a
grabbed keyboard's light does not follow), so a code whose letters hang on it is refused from then on.

The layout (`xkb.Layout`) says what a key types, alone and with Shift, Caps Lock and AltGr (the right Alt key, or Ctrl
with Alt, as Windows has it). Beside that, scanners type:

    dead key, then a letter     the letter with its accent; then a space: the accent itself; anything else is an error
    Ctrl and a letter or ]      a control character; Ctrl+] is GS, the FNC1 within GS1 data
    Alt, digits of the keypad   a character by number (Alt+0+2+9 is GS)

The strategy: keep modifiers and the text so far; judge the code when its end key comes (or the pause, without one).
What is not understood spoils the whole code; nothing is guessed.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise
from drivers.scanners import keys
from drivers.scanners.label import Aim, Label
from drivers.scanners.xkb import ALTGR, CAPS, SHIFT, NoLayout, load_layout

RECORD = struct.Struct("llHHi")
GAP_ENDS_CODE_MS = 300
GAP_CUTS_CODE_MS = 1000
CODE_LIMIT_CHARACTERS = 8192
_RAW_LIMIT_BYTES = 8 * 3 * CODE_LIMIT_CHARACTERS  # eight key events a character, as Alt and a number take
_EV_SYN, _EV_KEY, _SYN_REPORT, _SYN_DROPPED = 0, 1, 0, 3
_KEY_EVENT = struct.Struct(">HB")

_SHIFTS = frozenset((keys.LEFT_SHIFT, keys.RIGHT_SHIFT))
_CTRLS = frozenset((keys.LEFT_CTRL, keys.RIGHT_CTRL))
_ALTS = frozenset((keys.LEFT_ALT, keys.RIGHT_ALT))
_MODIFIERS = _SHIFTS | _CTRLS | _ALTS
_ENDS = {
    "enter": frozenset((keys.ENTER, keys.KEYPAD_ENTER)),
    "tab": frozenset((keys.TAB,)),
    "none": frozenset[int](),
}

# What a dead key followed by a space types.
_ALONE = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030b\u030c\u0327\u0328", "`´^~¯˘˙¨˝ˇ¸˛", strict=True)
)


@dataclass(frozen=True, slots=True)
class KeyboardScannerOptions:
    """How the scanner was programmed: the keyboard that it is, and what stands around a code.

    `layout` and `variant` are those of xkb: us, gb, de, fr, es, it and all others. `suffix` is the key that ends a code
    ("none": a pause of 300 ms does). `prefix` and `aim` as in `Label`.
    """

    layout: str = "us"
    variant: str = ""
    suffix: Literal["enter", "tab", "none"] = "enter"
    prefix: str = ""
    aim: Aim = "auto"

    def __post_init__(self) -> None:
        """Refuse layouts that cannot be had on this machine."""
        try:
            load_layout(self.layout, self.variant)
        except NoLayout as error:
            raise ValueError(f"layout: {error}") from error


class KeyboardScanner:
    """Key events of one scanner in, `Scan` and `Noise` out."""

    def __init__(self, options: KeyboardScannerOptions | None = None) -> None:
        options = options or KeyboardScannerOptions()
        layout = load_layout(options.layout, options.variant)
        self._characters, self._dead_keys, self._has_altgr = layout.characters, layout.dead, layout.altgr
        if not options.variant and (windows := keys.WINDOWS_DEAD.get(options.layout)):
            dead = {code * 8 + ALTGR + caps: accent for code, accent in windows.items() for caps in (0, CAPS)}
            self._dead_keys = {**layout.dead, **dead}
            self._characters = {place: text for place, text in layout.characters.items() if place not in dead}
        self._ends = _ENDS[options.suffix]
        self._label = Label(options.prefix, options.aim)
        self._records = bytearray()
        self._held: set[int] = set()
        self._caps = self._caps_used = self._lost = False
        self._dropping: Literal["no", "packet", "code"] = "no"
        self._begin()
        self.idle_ms: int | None = GAP_CUTS_CODE_MS if self._ends else GAP_ENDS_CODE_MS

    @property
    def pending(self) -> bool:
        """True while a code is begun and not ended, or being passed over."""
        return bool(self._raw or self._records) or self._dropping != "no"

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take records, split anywhere; return one event per code that ended."""
        self._records += data
        whole = len(self._records) - len(self._records) % RECORD.size
        chunk = bytes(self._records[:whole])
        del self._records[:whole]
        events: list[Event] = []
        for _, _, kind, code, value in RECORD.iter_unpack(chunk):
            if kind == _EV_KEY and value in (0, 1):  # a repeat says nothing more
                event = self._key(code, value)
            elif kind == _EV_SYN and code == _SYN_DROPPED:
                event = self._dropped()
            else:
                if kind == _EV_SYN and code == _SYN_REPORT and self._dropping == "packet":
                    self._dropping = "code"
                continue
            if event is not None:
                events.append(event)
        return events

    def idle(self) -> Sequence[Event]:
        """Silence: the end of a code when no key ends it; otherwise the rest will never come."""
        if self._ends or self._dropping != "no":
            return self._given_up()
        event = self._end()
        return [event] if event else []

    def cut_off(self) -> Sequence[Event]:
        """Forget everything, keys held down and Caps Lock included; a code begun is reported."""
        self._held.clear()
        self._caps = self._caps_used = self._lost = False
        return self._given_up()

    def _given_up(self) -> Sequence[Event]:
        raw = bytes(self._raw)
        self._records.clear()
        self._dropping = "no"
        self._begin()
        return [Noise(raw, "cut off", "cut_off")] if raw else []

    def _begin(self) -> None:
        self._text: list[str] = []
        self._raw = bytearray()
        self._digits = ""
        self._dead: str | None = None
        self._fault = self._fault_code = ""

    def _spoil(self, reason: str, code: str = "keys_not_understood") -> None:
        """This code will not be delivered; the first reason is the one that is told."""
        if not self._fault:
            self._fault, self._fault_code = reason, code

    def _dropped(self) -> Event | None:
        raw, told = bytes(self._raw), self._dropping != "no"
        self._held.clear()
        self._lost = True
        self._begin()
        self._dropping = "packet"
        return None if told else Noise(raw, "key events were lost in the kernel", "lost_events")

    def _key(self, code: int, value: int) -> Event | None:
        if self._dropping == "packet":
            return None
        if code in _MODIFIERS:
            self._modifier(code, value)
            return None
        if value == 0:
            return None
        if code == keys.CAPS_LOCK:
            self._caps, self._caps_used = not self._caps, True
            return None
        if self._dropping == "code":
            if code in self._ends:
                self._dropping = "no"
            return None
        if code in self._ends:
            self._raw += _KEY_EVENT.pack(code, value)
            return self._end()
        if code != keys.NUM_LOCK:
            self._struck(code)
        return None

    def _modifier(self, code: int, value: int) -> None:
        if value == 1:
            self._held.add(code)
        else:
            self._held.discard(code)
        if self._dropping != "no":
            return
        if self._raw and len(self._raw) < _RAW_LIMIT_BYTES:
            self._raw += _KEY_EVENT.pack(code, value)
        if value == 0 and code in _ALTS and self._digits:
            character = keys.alt_character(self._digits)
            if character is None:
                self._spoil(f"Alt+{self._digits} is no character that is the same everywhere")
            else:
                self._typed(character)
            self._digits = ""

    def _struck(self, code: int) -> None:
        if len(self._text) >= CODE_LIMIT_CHARACTERS or len(self._raw) >= _RAW_LIMIT_BYTES:
            self._spoil(f"longer than {CODE_LIMIT_CHARACTERS} characters", "too_long")
            return
        self._raw += _KEY_EVENT.pack(code, 1)
        held = self._held
        bits = CAPS if self._caps else 0
        if not held:  # nearly always
            self._meant(code, bits)
            return
        if held & _SHIFTS:
            bits |= SHIFT
        ctrl, alt = bool(held & _CTRLS), bool(held & _ALTS)
        if self._has_altgr and (keys.RIGHT_ALT in held or (ctrl and alt)):
            self._meant(code, bits | ALTGR)
        elif alt:
            digit = keys.KEYPAD_DIGITS.get(code)
            if digit is None or len(self._digits) == 4:
                self._spoil(f"key {code} with Alt means nothing")
            else:
                self._digits += digit
        elif ctrl:
            character = self._characters.get(code * 8 + bits, "")
            control = keys.control_character(character) or keys.CTRL_PLACES.get(code)
            if control is None:
                self._spoil(f"Ctrl+{character or code} means nothing in a code")
            else:
                self._typed(control)
        else:
            self._meant(code, bits)

    def _meant(self, code: int, bits: int) -> None:
        """A key that types a character of the layout, or an accent for the next one."""
        place = code * 8 + bits
        if self._lost and self._caps_used and self._characters.get(place) != self._characters.get(place ^ CAPS):
            self._spoil("whether Caps Lock is on is not known since key events were lost; plug the scanner in again")
        character = self._characters.get(place)
        if character is not None:
            self._typed(character)
        elif (accent := self._dead_keys.get(place)) is not None:
            if self._dead is not None:
                self._spoil("two dead keys in a row")
            self._dead = accent
        else:
            self._spoil(f"key {code} means nothing on this layout")

    def _typed(self, character: str) -> None:
        if self._dead is not None:
            accent, self._dead = self._dead, None
            joined = _ALONE.get(accent, "") if character == " " else unicodedata.normalize("NFC", character + accent)
            if len(joined) != 1:
                self._spoil(f"a dead key followed by {character!r} is no character")
            character = joined
        self._text.append(character)

    def _end(self) -> Event | None:
        if self._dead is not None:
            self._spoil("a dead key at the end")
        if self._digits:
            self._spoil("Alt is still held at the end")
        raw, text, fault, fault_code = bytes(self._raw), "".join(self._text), self._fault, self._fault_code
        self._begin()
        if fault:
            return Noise(raw, fault, fault_code)
        return self._label.read(text, raw) if text else None
