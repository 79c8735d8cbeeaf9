"""A receipt of forty lines to bytes: time, bytes and memory, in the printer's own letters and drawn as pictures.

Plain text, Russian by code page and Chinese drawn take turns in one run. Each language's first receipt and its memory
are measured in a process of its own, because libraries and fonts are loaded once.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

from bench.report import Goal, Report, finish, median, parser, percentile
from drivers.printers.document import Cut, Element, Row, Rule, Text
from drivers.printers.escpos import encode, preload
from drivers.printers.profiles import PROFILES

LINES = 40
SERIAL_BYTES_PER_S = 11_520  # 115200 baud, ten bits to a byte
WORDS = {
    "plain": ("RECEIPT", "TOTAL", ("Bananas", "Whole milk 1 l", "Rye bread", "Butter 250 g", "Apples red")),
    "ru": ("КАССОВЫЙ ЧЕК", "ИТОГО", ("Бананы", "Молоко 3,2% 1 л", "Хлеб ржаной", "Масло сливочное", "Яблоки")),
    "zh": ("收据", "合计", ("香蕉", "全脂牛奶 1L", "黑麦面包", "黄油 250克", "红苹果")),
}


def receipt(language: str, seed: int) -> list[Element]:
    """A receipt as a shop prints it: no two alike."""
    title, total, articles = WORDS[language]
    chance = random.Random(seed)
    rows: list[Element] = [
        Row(f"{chance.choice(articles)} x{chance.randint(1, 9)}", f"{chance.uniform(0.5, 99):.2f}")
        for _ in range(LINES - 4)
    ]
    head = Text(title, align="center", bold=True, width=2, height=2)
    return [head, Rule(), *rows, Rule(), Row(total, f"{chance.uniform(50, 900):.2f}", bold=True), Cut()]


def resident_kib() -> int:
    """Memory of this process."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def first(language: str, model: str) -> None:
    """In a process of its own: what the first receipt costs beyond the loaded encoder."""
    preload()
    encode(receipt("plain", 0), PROFILES[model])
    before, started = resident_kib(), time.perf_counter()
    encode(receipt(language, 1), PROFILES[model])
    taken_ms = (time.perf_counter() - started) * 1000
    for seed in range(2, 50):
        encode(receipt(language, seed), PROFILES[model])
    print(json.dumps({"first_ms": taken_ms, "memory_kib": resident_kib() - before}))


def main() -> int:
    """Measure and report."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--receipts", type=int, default=200, help="of each language (default 200)")
    arguments.add_argument("--model", default="TM-T88V", choices=PROFILES, help="a row of the printer table")
    arguments.add_argument("--first", choices=WORDS, help="only the first receipt of one language, as JSON")
    chosen = arguments.parse_args()
    if chosen.first:
        first(chosen.first, chosen.model)
        return 0
    preload()
    taken: dict[str, list[float]] = {language: [] for language in WORDS}
    sizes: dict[str, list[float]] = {language: [] for language in WORDS}
    for seed in range(chosen.receipts + 5):
        for language in random.sample(list(WORDS), len(WORDS)):
            document = receipt(language, seed)
            started = time.perf_counter()
            encoded = encode(document, PROFILES[chosen.model])
            if seed >= 5:  # the first few load what is loaded once
                taken[language].append((time.perf_counter() - started) * 1000)
                sizes[language].append(len(encoded.data))
            if encoded.replaced:
                sys.exit(f"{language}: {encoded.replaced!r} could not be printed; install the fonts that ./dev names")
    report = Report("receipt")
    report.figures["lines"] = LINES
    for language in WORDS:
        command = [sys.executable, "-m", "bench.receipt", "--first", language, "--model", chosen.model]
        alone = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        report.figures |= {
            f"{language}_median_ms": median(taken[language]),
            f"{language}_p99_ms": percentile(taken[language], 0.99),
            f"{language}_first_ms": alone["first_ms"],
            f"{language}_bytes": int(median(sizes[language])),
            f"{language}_on_serial_115200_s": median(sizes[language]) / SERIAL_BYTES_PER_S,
            f"{language}_memory_kib": alone["memory_kib"],
        }
    report.goals = [
        Goal("zh_p99_ms", percentile(taken["zh"], 0.99), 100.0),
        Goal("zh_memory_kib", float(report.figures["zh_memory_kib"]), 16_384.0),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
