"""How often what is no card number is refused as one, how often one passes in disguise, and what looking costs.

Numbers are made by chance, as shops have them: goods with valid check digits and GS1's prefixes as they are in trade,
receipts in the usual forms, telephones of thirty countries, times, identifiers. Each is asked about in the field where
it stands, and again as a line of a printed receipt. Card numbers are those that schemes publish for tests, in
disguises; and, for what excuses a number that is none, card numbers by chance.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Mapping

from bench.report import Goal, Report, finish, median, parser
from edge import card_numbers

PUBLISHED = (
    "4111111111111111", "4012888888881881", "4242424242424242", "4000056655665556", "5555555555554444",
    "5105105105105100", "5200828282828210", "2223003122003222", "2720990000000007", "378282246310005",
    "371449635398431", "6011111111111117", "6011000990139424", "30569309025904", "38520000023237",
    "36227206271667", "3530111333300000", "3566002020360505", "6200000000000005", "6205500000000000004",
    "6759649826438453", "2200000000000004", "9792030394440796", "6073849700004947", "5066991111111118",
    "5060990580000217499",
)  # fmt: skip

GS1_PREFIXES: Mapping[str, int] = {
    "00": 12, "03": 2, "07": 5, "30": 6, "32": 4, "35": 3, "380": 1, "400": 5, "401": 5, "402": 3, "405": 3, "42": 4,
    "43": 3, "45": 3, "46": 4, "471": 2, "48": 3, "49": 4, "50": 7, "52": 1, "54": 4, "560": 2, "57": 3, "59": 4,
    "60": 1, "61": 1, "64": 3, "69": 9, "70": 2, "729": 1, "73": 3, "75": 3, "76": 3, "77": 2, "789": 3, "80": 6,
    "84": 4, "859": 1, "868": 2, "869": 2, "87": 5, "880": 2, "885": 1, "890": 3, "893": 1, "90": 3, "93": 2, "94": 1,
    "978": 4,
}  # fmt: skip
"""Prefix -> weight; by number of members of the national organisations, roughly."""

PHONES: Mapping[str, tuple[str, ...]] = {
    "1": ("2125550###", "415#######"), "20": ("10########",), "27": ("82#######",), "30": ("69########",),
    "31": ("6########",), "32": ("4########",), "33": ("6########", "1########"), "34": ("6########",),
    "351": ("91#######",), "353": ("87#######",), "358": ("40#######",), "36": ("20#######",), "380": ("50#######",),
    "39": ("3#########",), "40": ("7########",), "41": ("79#######",), "420": ("6########",), "421": ("9########",),
    "43": ("664#######", "6641234####"), "44": ("7#########", "20########"), "45": ("########",),
    "46": ("7########",), "47": ("9#######",), "48": ("6########",), "49": ("151########", "17########", "30#######"),
    "52": ("55########",), "55": ("119########",), "61": ("4########",), "62": ("812########", "81#########"),
    "63": ("9#########",), "81": ("90########",), "86": ("13#########",), "90": ("5#########",), "91": ("9#########",),
}  # fmt: skip
"""Country -> national numbers, # any digit."""


def digits(chance: random.Random, count: int) -> str:
    """So many digits by chance."""
    return "".join(chance.choices("0123456789", k=count))


def filled(chance: random.Random, pattern: str) -> str:
    """`pattern` with a digit for each #."""
    return "".join(chance.choice("0123456789") if letter == "#" else letter for letter in pattern)


def gs1_digit(body: str) -> str:
    """GS1 General Specifications, 7.9."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return str(-total % 10)


def luhn_digit(body: str) -> str:
    """ISO/IEC 7812-1, annex B."""
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(body)))
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def gtin_13(chance: random.Random) -> str:
    """As in trade."""
    (prefix,) = chance.choices(list(GS1_PREFIXES), list(GS1_PREFIXES.values()))
    body = prefix + digits(chance, 12 - len(prefix))
    return body + gs1_digit(body)


def gtin_14(chance: random.Random) -> str:
    """A case of such goods."""
    body = chance.choice("12345678") + gtin_13(chance)[:12]
    return body + gs1_digit(body)


def gtin_8(chance: random.Random) -> str:
    """A short one."""
    body = digits(chance, 7)
    return body + gs1_digit(body)


def sscc(chance: random.Random) -> str:
    """The number of a pallet."""
    body = chance.choice("0123456789") + gtin_13(chance)[:9] + digits(chance, 7)
    return body + gs1_digit(body)


def day(chance: random.Random) -> str:
    """A business day of the last two years."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - chance.randrange(730) * 86_400))


def phone(chance: random.Random, form: str) -> str:
    """A telephone number; `form` has {c} for the country and {n} for the rest, or {s} for the rest in groups."""
    country = chance.choice(list(PHONES))
    number = filled(chance, chance.choice(PHONES[country]))
    size = chance.choice((2, 3, 4))
    return form.format(c=country, n=number, s=" ".join(number[at : at + size] for at in range(0, len(number), size)))


def iban(chance: random.Random) -> str:
    """A German, French or Dutch one, in fours."""
    country, body = chance.choice(
        (("DE", digits(chance, 18)), ("FR", digits(chance, 23)), ("NL", "INGB" + digits(chance, 10)))
    )
    check = 98 - int("".join(str(int(letter, 36)) for letter in body + country + "00")) % 97
    whole = f"{country}{check:02d}{body}"
    return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def luhn_of(chance: random.Random, prefix: str, length: int) -> str:
    """A number of this length with a fitting Luhn digit."""
    body = prefix + digits(chance, length - 1 - len(prefix))
    return body + luhn_digit(body)


Make = Callable[[random.Random], str]
RECEIPTS: dict[str, Make] = {
    "receipt: counter": lambda c: digits(c, 6),
    "receipt: lane-counter": lambda c: f"{c.randint(1, 20)}-{digits(c, 6)}",
    "receipt: store-day-counter, grouped": lambda c: f"{c.randint(1000, 9999)}-{{day}}-{digits(c, 4)}",
    "receipt: store, day, counter in 16 digits": lambda c: f"{c.randint(1000, 9999)}{{day}}{digits(c, 4)}",
    "receipt: short day, lane, counter": lambda c: f"{{short}}{c.randint(1, 20):02d}{digits(c, 6)}",
    "receipt: store, short day, counter": lambda c: f"{c.randint(1000, 9999)}{{short}}{digits(c, 6)}",
    "receipt: 16 digits from zero": lambda c: "00" + digits(c, 14),
    "receipt: 20 digits": lambda c: digits(c, 20),
    "receipt: 16 digits of any kind": lambda c: str(c.randint(10**15, 10**16 - 1)),
}
OTHERS: dict[str, tuple[str, Make]] = {
    "GTIN-8": ("item", gtin_8),
    "GTIN-12": ("item", lambda c: gtin_13(c)[1:]),
    "GTIN-13": ("item", gtin_13),
    "GTIN-14": ("item", gtin_14),
    "GTIN with price or weight inside": ("item", lambda c: (b := f"2{digits(c, 11)}") + gs1_digit(b)),
    "element string": ("code", lambda c: f"01{gtin_14(c)}17{c.randint(26, 30)}0{c.randint(1, 9)}2810{digits(c, 8)}"),
    "element string in brackets": ("text", lambda c: f"(01){gtin_14(c)}(21){digits(c, 10)}"),
    "SSCC": ("text", lambda c: f"(00){sscc(c)}"),
    "telephone, E.164": ("member", lambda c: phone(c, "+{c}{n}")),
    "telephone, 00": ("member", lambda c: phone(c, "00{c}{n}")),
    "telephone, country without sign": ("member", lambda c: phone(c, "{c}{n}")),
    "telephone, grouped": ("member", lambda c: phone(c, "+{c} {s}")),
    "telephone, national": ("member", lambda c: phone(c, "0{s}")),
    "time, ISO 8601": ("at", lambda c: f"{day(c)}T{c.randint(0, 23):02d}:{c.randint(0, 59):02d}:07.{digits(c, 6)}Z"),
    "time, ms since 1970": ("at", lambda c: str(int(time.time() * 1e3) - c.randrange(10**11))),
    "time, us since 1970": ("at", lambda c: str(int(time.time() * 1e6) - c.randrange(10**14))),
    "time, ns since 1970": ("at", lambda c: str(int(time.time() * 1e9) - c.randrange(10**17))),
    "time, 14 digits": ("at", lambda c: day(c).replace("-", "") + f"{c.randint(10, 23)}{c.randint(1000, 5959)}"),
    "UUIDv4": ("id", lambda c: str(uuid.UUID(int=c.getrandbits(128), version=4))),
    "SHA-256": ("digest", lambda c: hashlib.sha256(c.randbytes(8)).hexdigest()),
    "IBAN": ("account", iban),
    "coordinates": ("at", lambda c: f"{c.uniform(-90, 90)!r}, {c.uniform(-180, 180)!r}"),
    "amounts": ("text", lambda c: f"{c.uniform(0, 9e4):,.2f} EUR {c.randint(1, 99)} x {c.uniform(0, 99):.2f}"),
    "acquirer's reference, 12 digits": ("reference", lambda c: f"{c.choice('56')}{c.randint(100, 366)}{digits(c, 8)}"),
    "IMEI": ("serial", lambda c: luhn_of(c, c.choice(("35", "86", "01")), 15)),
    "customer card, no scheme's range": ("member", lambda c: luhn_of(c, c.choice(("9826", "3083", "6340")), 16)),
    "customer card, in a scheme's range": ("member", lambda c: luhn_of(c, c.choice(("6225", "4", "51")), 16)),
}  # fmt: skip

DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda n: n,
    "spaces": lambda n: _grouped(n, " "),
    "dashes": lambda n: _grouped(n, "-"),
    "dots": lambda n: _grouped(n, "."),
    "underscores": lambda n: _grouped(n, "_"),
    "slashes": lambda n: _grouped(n, "/"),
    "tabs": lambda n: _grouped(n, "\t"),
    "no-break spaces": lambda n: _grouped(n, "\u00a0"),
    "thin spaces": lambda n: _grouped(n, "\u2009"),
    "non-breaking hyphens": lambda n: _grouped(n, "\u2011"),
    "zero-width spaces": lambda n: _grouped(n, "\u200b"),
    "space, dash, space": lambda n: _grouped(n, " - "),
    "each digit apart": " ".join,
    "pairs": lambda n: _grouped(n, " ", 2),
    "full width": lambda n: "".join(chr(0xFF10 + int(d)) for d in n),
    "Arabic-Indic": lambda n: "".join(chr(0x0660 + int(d)) for d in n),
    "letters around": lambda n: f"PAN{n}EUR",
    "quantity before, expiry behind": lambda n: f"1 {_grouped(n, ' ')} 12/27",
    "track 1": lambda n: f"%B{n}^DOE/JOHN^27121010000000000?",
    "track 2": lambda n: f";{n}=27121010000000000000?",
    "track 2, chip's form": lambda n: f"{n}D27122010000000000000F",
    "a line broken in the middle": lambda n: f"{n[:8]}\n{n[8:]}",
    "in a longer number": lambda n: f"{n}271233",
    "base64": lambda n: __import__("base64").b64encode(n.encode()).decode(),
}
"""The last three are those that are said not to be found."""


def _grouped(number: str, separator: str, size: int = 4) -> str:
    return separator.join(number[at : at + size] for at in range(0, len(number), size))


def refused(message: object) -> bool:
    """Whether the gateway would refuse it."""
    return card_numbers.in_payload(json.dumps(message).encode()) is not None


def sale(lines: int, item: Callable[[], str]) -> bytes:
    """A sale as a till sends it."""
    data = {
        "business_day_date": "2026-05-04", "operator_id": "c7", "receipt_number": "1-000042", "currency": "EUR",
        "lines": [
            {
                "line": n + 1, "item": item(), "text": "Textmarker gelb", "quantity": "1", "unit_price_minor": 129,
                "amount_minor": 129,
            } for n in range(lines)
        ],
        "total_minor": 129 * lines,
    }  # fmt: skip
    event = {
        "specversion": "1.0", "id": "019a3f6e-1c2b-7f00-8a4d-0123456789ab", "source": "/stores/1042/lanes/3",
        "type": "tillgate.sale.completed.v1", "time": "2026-05-04T09:30:00.000Z", "datacontenttype": "application/json",
        "sequence": "0000000042", "data": data,
    }  # fmt: skip
    return json.dumps(event, ensure_ascii=False).encode()


def cost_us(payload: bytes, rounds: int) -> float:
    """The median time of one look at it."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        card_numbers.in_payload(payload)
        taken.append((time.perf_counter_ns() - started) / 1000)
    return median(taken)


def main() -> int:
    """Measure and report."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--numbers", type=int, default=20_000, help="of each kind (default 20000)")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    chance = random.Random(chosen.seed)
    report = Report("cards")
    report.figures["numbers_of_each_kind"] = chosen.numbers
    usual = 0
    for name, make in RECEIPTS.items():
        in_field = printed = 0
        for _ in range(chosen.numbers):
            today = day(chance)
            number = make(chance).format(day=today.replace("-", ""), short=today[2:].replace("-", ""))
            in_field += refused({"data": {"business_day_date": today, "receipt_number": number}})
            now = time.strftime("%Y%m%d")
            fresh = number.replace(today.replace("-", ""), now).replace(today[2:].replace("-", ""), now[2:])
            printed += refused({"parameters": {"document": [{"kind": "text", "text": f"Bon {fresh}"}]}})
        report.figures |= {
            f"{name}: refused_per_million": in_field / chosen.numbers * 1e6,
            f"{name}, printed: refused_per_million": printed / chosen.numbers * 1e6,
        }
        usual += 0 if name.endswith("of any kind") else in_field
    for name, (field, make) in OTHERS.items():
        in_field = printed = 0
        for _ in range(chosen.numbers):
            number = make(chance)
            in_field += refused({"data": {field: number}})
            printed += refused({"parameters": {"document": [{"kind": "text", "text": f"a {number} b"}]}})
        report.figures |= {
            f"{name}: refused_per_million": in_field / chosen.numbers * 1e6,
            f"{name}, printed: refused_per_million": printed / chosen.numbers * 1e6,
        }
        usual += 0 if name.startswith("customer card") else in_field
    kinds = len(RECEIPTS) - 1 + len(OTHERS) - 2
    missed = 0
    for name, disguise in DISGUISES.items():
        found = sum(refused({"data": {"text": disguise(number)}}) for number in PUBLISHED)
        report.figures[f"disguise, {name}: found of {len(PUBLISHED)}"] = found
        missed += 0 if name in list(DISGUISES)[-3:] else len(PUBLISHED) - found
    missed_by_chance = 0
    for _ in range(10 * chosen.numbers):
        prefix, length = chance.choice((("4", 16), ("5", 16), ("37", 15), ("36", 14), ("6011", 16)))
        prefix += chance.choice("12345") if prefix == "5" else ""
        missed_by_chance += not refused({"data": {"text": luhn_of(chance, prefix, length)}})
    report.figures["card numbers by chance: missed_per_million"] = missed_by_chance / chosen.numbers * 1e5
    usual_sale, cases = sale(1, lambda: gtin_13(chance)), sale(1, lambda: gtin_14(chance))
    large = sale(440, lambda: gtin_13(chance))[:65_536]
    hostile = json.dumps({"text": "4111 1111 1111 1112 " * 3_270}).encode()
    costs = {
        "sale_us": cost_us(usual_sale, 5_000),
        "sale_of_a_case_us": cost_us(cases, 2_000),
        "sale_of_64_kib_us": cost_us(large, 50),
        "sale_of_64_kib_in_cases_us": cost_us(sale(440, lambda: gtin_14(chance)), 20),
        "hostile_64_kib_us": cost_us(hostile, 10),
    }
    report.figures |= {"sale_bytes": len(usual_sale), **costs}
    report.goals = [
        Goal("refused per million of what is no card", usual / (kinds * chosen.numbers) * 1e6, 1_000.0),
        Goal("test numbers missed in disguise", missed, 0.0),
        Goal("sale_us", costs["sale_us"], 20.0),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
