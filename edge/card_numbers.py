"""Payment card data in texts, JSON and log lines: found, so that it is refused, and masked, so that it can be shown.

Strategy: sieves, each many times as dear as the one before. `suspect` looks at bytes with a handful of C calls and lets
go whatever has neither 14 digits in a row nor a name that speaks of cards. `find` looks at rows of digits as people and
programs group them: a number is a card's when an issuer's range, its length and the Luhn digit agree (ISO/IEC 7812-1)
and nothing around it says that it is something else. `in_json` does it for every string, number and key of a message,
knows by a field's name what stands in it, and opens JSON inside strings.

Nothing here backtracks: every pattern is possessive or of bounded length, a row of digits is looked at in windows of at
most 19, JSON is walked without recursion. The work grows with the length of the text and with nothing else.

Not found: a number spread over several fields or lines, hidden in longer digits, spelled out, encoded (base64, percent
signs, pictures) or encrypted; and 12 or 13 digits in a field whose name does not speak of cards, where they are far
more often a GTIN or a telephone number (cards of that length are no longer issued).

Source: ISO/IEC 7812-1 (numbers, Luhn), ISO/IEC 7813 (tracks 1 and 2), PCI DSS 4.0 requirements 3.3 (what is never kept)
and 3.4.1 (what a masked number may show), PCI SSC FAQ 1091 (per length).
"""

from __future__ import annotations

import functools
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from edge.card_issuers import LONGEST, SHORTEST, SURE_FROM, is_issued

Kind = Literal["pan", "track1", "track2", "cvv"]

_SEPARATOR = r" \t\-._/\u00a0\u00ad\u2000-\u2015\u202f\u205f\u2060\u2212\u3000\ufeff\ufe63\uff0d\uff0e"
_ROW = re.compile(rf"\d(?:[{_SEPARATOR}]{{0,3}}+\d){{{SHORTEST - 1},}}+")
"""Digits of any script, with at most three separators between two of them."""
_GROUP = re.compile(r"\d++")
_DIGIT = re.compile(r"\d")
_ESCAPED_DIGIT = re.compile(rb"\\+u00(3[0-9])")
_EXPONENT = re.compile(r"[:,\[]\s*+-?\d[\d.]*+[eE]")

_TRACK1 = re.compile(r"%?[A-Z]\d{12,19}+\^[^\^\n]{2,30}+\^\d{4}[^?\n]{0,60}+\??")
_TRACK2 = re.compile(r";?(?<!\d)(\d{12,19}+)[=D]\d\d(?:0[1-9]|1[0-2])\d{3,33}+\??")
_CVV = re.compile(r"""\b(?:cvv2?|cvc2?|cav2|cvn2?)\b["'\s:=]{1,4}+(\d{3,4})\b(?![-./:]\d)""", re.IGNORECASE)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names of fields as `_plain` writes them.
_CARD_FIELDS: Final = _names(
    "pan card cardnumber cardno cardnum cardpan creditcard creditcardnumber debitcard debitcardnumber paymentcard "
    "paymentcardnumber maskedcard maskedpan"
)
_CVV_FIELDS: Final = _names(
    "cvv cvv2 cvc cvc2 cav2 csc cvn cvn2 cvvcode cvccode cardverificationvalue cardverificationcode cardsecuritycode "
    "cardcvv cardcvc securitycode pinblock"
)
_TRACK_FIELDS: Final = _names("track1 track2 track3 trackdata track1data track2data trackequivalentdata")
_NAMED_FIELDS: Final = _CARD_FIELDS | _CVV_FIELDS | _TRACK_FIELDS
_GOODS_FIELDS: Final = _names("item gtin ean upc code sku plu article barcode data")
_RECEIPT_FIELDS: Final = _names("receiptnumber originalreceiptnumber receipt invoicenumber")
_DAY_FIELDS: Final = ("business_day_date", "time")
_DAYS_AT_MOST = 4
_SHORTEST_TEXT = len("cvv 123")
_SHORTEST_NUMBER = 10 ** (SHORTEST - 1)

_HINTS: Final = (
    b"card", b'pan"', b"cvv", b"cvc", b"cvn", b"cav0", b"csc", b"securitycode", b"pinblock", b"track",
)  # fmt: skip
"""What the names above have in them as the sieve leaves it, digits being 0: a payload with one is looked at whole."""
_SIEVE: Final = bytes(
    0x30 if 0x30 <= byte <= 0x39 or byte >= 0xC2 else byte + 32 if 0x41 <= byte <= 0x5A else byte for byte in range(256)
)
"""Digits to 0, letters to lower case. Of a letter beyond ASCII, which may be a digit of another script or a separator,
the first byte counts as a digit."""
_SIEVED_OUT: Final = b" \t-._/=" + bytes(range(0x80, 0xC0))
_MANY_DIGITS: Final = b"0" * SURE_FROM

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{24,}+", re.IGNORECASE)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{1,4}){3,8}+\b")
_IBAN_BEGINS = re.compile(r"\b[A-Z]{2}\d\d")
_AROUND = 40
"""What is looked at before and behind a number: an IBAN has 34 characters, a UUID 36."""

_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")


@dataclass(frozen=True, slots=True)
class Finding:
    """Card data in ``text[start:end]``; for `cvv` the value alone."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where card data stands in a message: `path` such as ``data.lines.0.text``. Holds no more digits than a mask."""

    kind: Kind
    path: str

    def __str__(self) -> str:
        return f"{self.path or 'message'}: holds {_WHAT[self.kind]}"


_WHAT: Final[dict[Kind, str]] = {
    "pan": "a card number",
    "track1": "a card's magnetic track",
    "track2": "a card's magnetic track",
    "cvv": "a card's verification value or PIN block",
}


class CardNumberRefused(ValueError):
    """A message holds card data; `place` says where and the text says what to do. `code` is the bus's problem code."""

    code = "card_number_refused"

    def __init__(self, place: Place) -> None:
        super().__init__(f"{place}; leave it out, or mask it to the first six and last four digits")
        self.place = place


def suspect(payload: bytes) -> bool:
    """Whether `payload` (UTF-8) is worth a closer look. False: there is no card data in it that we would find."""
    return _sieve(payload) != _NOTHING


_NOTHING, _DIGITS, _ALL = range(3)


def _sieve(payload: bytes) -> int:
    """What there is to look at: nothing; rows of digits, wherever they stand; or everything, names and escapes too."""
    if b"\\" in payload or b"^" in payload:
        return _ALL
    sieved = payload.translate(_SIEVE, _SIEVED_OUT)
    for hint in _HINTS:
        if hint in sieved:
            return _ALL
    return _DIGITS if _MANY_DIGITS in sieved else _NOTHING


def find(text: str) -> list[Finding]:
    """All card data in `text`, in its order, without overlaps."""
    return _find(text, "", ())


def in_json(value: Any) -> Place | None:
    """The first card data in parsed JSON: in strings, numbers, keys, and JSON inside strings."""
    for node in _walk(value):
        if (inner := _opened(node)) is not None and (place := in_json(inner)) is not None:
            return Place(place.kind, f"{node.path()}.{place.path}".strip("."))
        if found := node.findings():
            return Place(found[0].kind, node.path())
    return None


def in_payload(payload: bytes, parsed: Any = None) -> Place | None:
    """The first card data in a message as it came: JSON, or any text. `parsed` spares parsing it once more."""
    there = _sieve(payload)
    if there == _NOTHING:
        return None
    text = _decoded(payload)
    # Fields only excuse what looks like a card number in a text; only a number with an exponent does not look like one.
    if there == _DIGITS and not _EXPONENT.search(text) and not find(text):
        return None
    if parsed is None:
        try:
            parsed = orjson.loads(payload)
        except orjson.JSONDecodeError:
            found = find(text)
            return Place(found[0].kind, "") if found else None
    return in_json(parsed)


def masked(text: str) -> str:
    """`text` with every card number cut to its first six and last four digits, tracks and verification values gone.

    Twice masked is once masked. Whatever is no card data stays as it is.
    """
    found = find(text)
    if not found:
        return text
    text = _without(text, found)
    # What was left of one number may have made another with its neighbours: of those nothing is left.
    while found := find(text):
        text = _without(text, found, shown=False)
    return text


def masked_json(value: Any) -> Any:
    """Parsed JSON with its card data masked; containers are changed in place. A number becomes a masked text."""
    root = {"": value}
    for node in list(_walk(root)):
        text = node.text
        inner = _opened(node)
        if inner is not None and in_json(inner) is not None:
            text = orjson.dumps(masked_json(inner)).decode()
        if found := node.findings(text):
            text = masked(_without(text, found))
        if text != node.text:
            node.replace(text)
    return root[""]


def masked_payload(payload: bytes) -> bytes:
    """A message that can be kept: as it came where it holds no card data, else masked (JSON is then written anew)."""
    if not suspect(payload):
        return payload
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        payload = _ESCAPED_DIGIT.sub(lambda match: bytes.fromhex(match[1].decode()), payload)
    else:
        if in_json(value) is not None:
            try:
                payload = orjson.dumps(masked_json(value))
            except TypeError:  # it reads 1024 levels and writes 254
                return TOO_DEEP
    text = _decoded(payload)
    clean = masked(text)  # a key that came twice stands in the text alone
    return payload if clean == text else clean.encode()


TOO_DEEP: Final = b"[holds card data, nested too deeply to be kept]"


def redacted(lines: Iterable[str]) -> Iterator[str]:
    """A text stream, line by line, with card data masked: for what leaves the store, such as a diagnostic bundle."""
    for line in lines:
        yield masked(line)


# -- in texts ----------------------------------------------------------------------------------------------------------


def _find(text: str, field: str, days: tuple[str, ...]) -> list[Finding]:
    """`find` in a field of this plain name, in a message of these days (``2026-11-25``)."""
    if not _DIGIT.search(text):
        return []
    found: list[Finding] = []
    if "^" in text:
        found += [Finding("track1", *match.span()) for match in _TRACK1.finditer(text)]
        text = _blanked(text, found)
    if "=" in text or "D" in text:
        tracks = [
            Finding("track2", *match.span())
            for match in _TRACK2.finditer(text)
            if match[0][0] == ";" or _is_card(_ascii(match[1]), named=True)
        ]
        text = _blanked(text, tracks)
        found += tracks
    if "cv" in (lower := text.lower()) or "cav2" in lower:
        found += [Finding("cvv", *match.span(1)) for match in _CVV.finditer(text)]
    for row in _ROW.finditer(text):
        found += [Finding("pan", *span) for span in _numbers(text, *row.span(), field, days)]
    found.sort(key=lambda one: one.start)
    return found


def _blanked(text: str, found: list[Finding]) -> str:
    """`text` of the same length without what was found: what it held is not to be found once more."""
    parts, done = [], 0
    for one in found:
        parts += [text[done : one.start], "?" * (one.end - one.start)]
        done = one.end
    return "".join(parts) + text[done:] if parts else text


def _numbers(text: str, start: int, end: int, field: str, days: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Card numbers in the row of digits ``text[start:end]``, left to right; the longest of those that begin alike."""
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    sizes = [after - before for before, after in groups]
    row = _ascii("".join(text[before:after] for before, after in groups))
    named = field in _CARD_FIELDS
    shortest = SHORTEST if named else SURE_FROM
    first = begins = 0
    while first < len(groups):
        if first and sizes[first] < 3 and sizes[first] == sizes[first - 1]:
            begins += sizes[first]  # a row of ones or twos begins where it begins
            first += 1
            continue
        beyond, length = 0, 0
        six = int(row[begins : begins + 6])
        for last in range(first, len(groups)):
            length += sizes[last]
            if length > LONGEST:
                break
            if (
                length >= shortest
                and is_issued(six, length, named=named)
                and _luhn(digits := row[begins : begins + length])
                and _as_on_cards(sizes, first, last)
                and (named or not _is_known(digits, text, groups, first, last, field, days))
            ):
                beyond = last + 1
        if beyond:
            yield groups[first][0], groups[beyond - 1][1]
        following = beyond or first + 1
        begins += sum(sizes[first:following])
        first = following


_GROUPINGS: Final = frozenset(
    ((4, 6, 5), (4, 6, 4), (6, 13), (6, 10), (4, 4, 4, 5), (4, 4, 4, 6), (4, 4, 4, 7), (4, 4, 8))
)
"""How cards print their numbers where the groups are not equal."""


def _as_on_cards(sizes: list[int], first: int, last: int) -> bool:
    """Whether digits stand together as cards print them, or in equal groups: 4-8-4 is a receipt's number."""
    if first == last:
        return True
    window = tuple(sizes[first : last + 1])
    if window in _GROUPINGS:
        return True
    size = window[0]
    if any(other != size for other in window[:-1]) or window[-1] > size:
        return False
    # Ones and twos are a list of numbers, unless they are all of it.
    return size >= 3 or (
        (first == 0 or sizes[first - 1] != size) and (last + 1 == len(sizes) or sizes[last + 1] != size)
    )


def _ascii(digits: str) -> bytes:
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    return digits.encode()


def _is_card(digits: bytes, *, named: bool) -> bool:
    return is_issued(int(digits[:6]), len(digits), named=named) and _luhn(digits)


def _luhn(digits: bytes) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right doubled, its own digits summed."""
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - 48 * len(digits)) % 10 == 0


def _gtin(digits: bytes) -> bool:
    """GS1 General Specifications, section 7.9: every second digit from the right counts three times."""
    ones, threes = digits[::-2], digits[-2::-2]
    return (sum(ones) + 3 * sum(threes) - 48 * (len(ones) + 3 * len(threes))) % 10 == 0


def _is_known(
    digits: bytes,
    text: str,
    groups: list[tuple[int, int]],
    first: int,
    last: int,
    field: str,
    days: tuple[str, ...],
) -> bool:
    """Whether what could be a card number is known to be another number by what stands around it."""
    start, end = groups[first][0], groups[last][1]
    if first == last:
        if field in _GOODS_FIELDS and len(digits) == 14 and _gtin(digits):
            return True
        if text[max(0, start - 4) : start] in _IDENTIFIERS and _gtin(digits):
            return True
        if first and text[groups[first - 1][1] : start] == ".":
            whole = groups[first - 1]
            if whole[1] - whole[0] <= 3 and (whole[0] == 0 or text[whole[0] - 1] != "."):
                return True  # digits behind a decimal point
    if _holds_day(digits, days, short=field in _RECEIPT_FIELDS):
        return True
    return _is_identifier(text, start, end)


def _is_identifier(text: str, start: int, end: int) -> bool:
    """Whether these digits belong to a UUID, a hash or an IBAN: each looked for only where the neighbours allow it."""
    near = max(0, start - _AROUND)
    around, first, last = text[near : end + _AROUND], start - near, end - near
    if "-" in text[start:end] and any(match.start() <= first < match.end() for match in _UUID.finditer(around)):
        return True
    if text[max(0, start - 1) : start].isalpha() or text[end : end + 1].isalpha():
        for match in _HEX.finditer(around):
            if _spans(match, first, last) and sum(map(str.isalpha, match[0])) >= 4:
                return True
    if _IBAN_BEGINS.search(around, 0, first):
        for match in _IBAN.finditer(around):
            if _spans(match, first, last) and _iban(match[0].replace(" ", "")):
                return True
    return False


_IDENTIFIERS: Final = frozenset(("(00)", "(01)", "(02)"))
"""Before an SSCC or GTIN as GS1 writes it for people; they share the check digit."""


def _spans(match: re.Match[str], start: int, end: int) -> bool:
    return match.start() <= start and end <= match.end()


def _iban(code: str) -> bool:
    """ISO 13616-1: the first four characters go last, letters are 10 to 35, dividing by 97 leaves 1."""
    return int("".join(str(int(letter, 36)) for letter in code[4:] + code[:4])) % 97 == 1


def _holds_day(digits: bytes, days: tuple[str, ...], *, short: bool) -> bool:
    """Whether a number holds a day of its message, or today's: many tills number receipts by store, day and counter.

    By chance one card number in thirty thousand holds one; one in ten thousand where `short`, in a field for receipts.
    """
    clock = int(time.time() // 86_400)
    dates = (*(_date(day) for day in (clock - 1, clock, clock + 1)), *(day[:10] for day in days))
    return any(form in digits for date in dates for form in _forms(date, short))


@functools.lru_cache(maxsize=8)
def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


@functools.lru_cache(maxsize=64)
def _forms(date: str, short: bool) -> tuple[bytes, ...]:
    """A day as receipts number it: year first, day first, month first; with two digits of the year, the year first.

    `short`: in every order with two digits.
    """
    if not re.fullmatch(r"20\d\d-\d\d-\d\d", date, re.ASCII):
        return ()
    year, month, day = date[:4], date[5:7], date[8:]
    forms = [year + month + day, day + month + year, month + day + year, year[2:] + month + day]
    if short:
        forms += [day + month + year[2:], month + day + year[2:]]
    return tuple(form.encode() for form in forms)


def _without(text: str, found: list[Finding], *, shown: bool = True) -> str:
    """`text` with what was found masked; `shown`: a number keeps its first six and last four digits."""
    parts, done = [], 0
    for one in found:
        piece = text[one.start : one.end]
        parts += [text[done : one.start], _hidden(piece, shown=shown) if one.kind == "pan" else f"[{one.kind}]"]
        done = one.end
    return "".join(parts) + text[done:]


def _hidden(number: str, *, shown: bool) -> str:
    count = sum(map(str.isdecimal, number))
    # Of a short number the last four alone: six more would leave hardly anything to guess.
    first, beyond = (6 if count >= SURE_FROM else 0, count - 4) if shown else (0, count)
    at, letters = 0, []
    for letter in number:
        digit = letter.isdecimal()
        letters.append("*" if digit and first <= at < beyond else letter)
        at += digit
    return "".join(letters)


def _decoded(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload.decode("latin-1")


# -- in JSON -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Branch:
    """An object or array on the way; `field` is the plain name of the nearest key above it."""

    holder: Any
    key: str | int
    parent: _Branch | None
    field: str


@dataclass(slots=True)
class _Node:
    """A value or key of a message: its `text`, the plain name of its field, and where it stands."""

    text: str
    key: str | int
    parent: _Branch | None
    field: str
    days: tuple[str, ...]
    is_key: bool = False
    is_text: bool = True

    def findings(self, text: str | None = None) -> list[Finding]:
        text = self.text if text is None else text
        if self.field in _CVV_FIELDS or self.field in _TRACK_FIELDS:
            digits = sum(map(str.isdecimal, text))
            if self.field in _TRACK_FIELDS and digits >= SHORTEST:
                return [Finding("track1" if self.field.startswith("track1") else "track2", 0, len(text))]
            if self.field in _CVV_FIELDS and (3 <= digits <= 4 or (self.field == "pinblock" and digits)):
                return [Finding("cvv", 0, len(text))]
        return _find(text, self.field, self.days)

    def path(self) -> str:
        parts = [str(self.key) if not self.is_key else f"key {self.key}"] if self.key != "" or self.is_key else []
        branch = self.parent
        while branch is not None:
            if branch.key != "":
                parts.append(str(branch.key))
            branch = branch.parent
        return masked(".".join(reversed(parts)))

    def replace(self, text: str) -> None:
        assert self.parent is not None
        holder = self.parent.holder
        if self.is_key:
            while text in holder:
                text += "*"
            holder[text] = holder.pop(self.key)
        else:
            holder[self.key] = text


@functools.lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _walk(value: Any) -> Iterator[_Node]:
    """Every string, number and key, keys last, without recursion."""
    days: tuple[str, ...] = ()
    waiting: list[tuple[Any, str | int, _Branch | None]] = [(value, "", None)]
    keys: list[tuple[str, _Branch]] = []
    while waiting:
        one, key, parent = waiting.pop()
        field = _plain(key) if isinstance(key, str) else parent.field if parent else ""
        if field == "number" and parent is not None and "card" in parent.field:
            field = "cardnumber"
        if isinstance(one, dict):
            if len(days) < _DAYS_AT_MOST:
                days += tuple(day for name in _DAY_FIELDS if isinstance(day := one.get(name), str))
            branch = _Branch(one, key, parent, field)
            waiting += [(inner, name, branch) for name, inner in reversed(one.items())]
            keys += [(name, branch) for name in one if _DIGIT.search(name)]
        elif isinstance(one, list):
            branch = _Branch(one, key, parent, field)
            waiting += [(one[at], at, branch) for at in range(len(one) - 1, -1, -1)]
        elif isinstance(one, str):
            if (len(one) >= _SHORTEST_TEXT or field in _NAMED_FIELDS) and _DIGIT.search(one):
                yield _Node(one, key, parent, field, days)
        elif isinstance(one, int | float) and not isinstance(one, bool):
            if -_SHORTEST_NUMBER < one < _SHORTEST_NUMBER and field not in _NAMED_FIELDS:
                continue
            text = str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)
            yield _Node(text, key, parent, field, days, is_text=False)
    for name, branch in keys:
        yield _Node(name, name, branch, "", days, is_key=True)


def _opened(node: _Node) -> Any:
    """The JSON in a string, None when it holds none. Escapes double with each level, so it never goes deep."""
    text = node.text
    if not node.is_text or len(text) < 8 or text.lstrip()[:1] not in ("{", "[", '"'):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
