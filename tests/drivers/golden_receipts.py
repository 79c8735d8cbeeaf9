"""One receipt in each language, as a shop there would print it, and the measure of how alike two papers are.

python -m tests.drivers.golden_receipts DIR     draws them all into DIR, to be looked at before they become golden
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

from drivers.printers.document import Columns, Element, Row, Rule, Text
from drivers.printers.escpos import encode
from drivers.printers.profiles import PROFILES
from drivers.virtual.escpos_reader import EscposReader
from drivers.virtual.picture import draw
from tests.drivers.paper_rig import Paper

MODEL = "TM-T88V"

RECEIPTS: Mapping[str, Sequence[Element]] = {
    "zh": [
        Text("收 据", align="center", bold=True, width=2, height=2),
        Text("上海市南京东路100号"),
        Row("牛奶 1L", "12.90"),
        Row("Milk 牛奶 1.5%", "1.29"),
        Row("新鲜有机香蕉（进口，来自厄瓜多尔，精选特级）每公斤", "¥18.80"),
        Columns(("2 ×", "豆腐 Tofu", "7.60"), (5, 0, 8), ("left", "left", "right")),
        Rule(),
        Row("合计", "¥40.59", bold=True),
        Text("谢谢惠顾！", align="center", underline=True),
        Text("会员价", invert=True),
    ],
    "ja": [
        Text("領収書", align="center", bold=True, width=2, height=2),
        Row("牛乳 1リットル", "¥218"),
        Row("コーヒー", "¥1,280"),
        Row("おにぎり（鮭）", "¥150"),
        Row("ﾊﾟﾝ", "¥98"),
        Row("合計", "¥1,746", bold=True),
        Text("毎度ありがとうございます。またのお越しをお待ちしております。"),
    ],
    "ko": [
        Text("영수증", align="center", bold=True, width=2, height=2),
        Row("우유 1L", "2,900원"),
        Row("바나나 0.482kg", "1,200원"),
        Row("합계", "4,100원", bold=True),
        Text("감사합니다", align="center"),
    ],
    "ar": [
        Text("فاتورة ضريبية", align="center", bold=True, width=2, height=2),
        Row("12.50", "حليب طازج ١ لتر"),
        Row("3.75", "خبز (عربي)"),
        Row("16.25", "المجموع", bold=True),
        Text("شكراً لزيارتكم Tillgate 24/7", align="right"),
        Text("مُحَمَّد", align="center", underline=True),
    ],
    "he": [
        Text("קבלה", align="center", bold=True, width=2, height=2),
        Row("6.90", "חלב 3% 1 ליטר"),
        Row("12.50", "לחם (מלא)"),
        Row("19.40", 'סה"כ', bold=True),
        Text("תודה רבה ולהתראות!", align="right"),
        Text("שָׁלוֹם Milk 1.29", align="right"),
    ],
    "th": [
        Text("ใบเสร็จรับเงิน", align="center", bold=True, width=2, height=2),
        Row("นมสดพาสเจอร์ไรส์", "45.00"),
        Row("น้ำดื่ม ๑ ลิตร", "12.50"),
        Row("รวมทั้งสิ้น", "57.50", bold=True),
        Text("ขอบคุณที่ใช้บริการ กี่ ปู่ ฎุ", align="center"),
    ],
    "ru": [
        Text("КАССОВЫЙ ЧЕК", align="center", bold=True, width=2, height=2),
        Row("Молоко 3,2% 1 л", "89,90"),
        Row("Хлеб ржаной", "54,00"),
        Row("ИТОГО", "143,90", bold=True),
        Text("Спасибо за покупку! Подъезд №5", align="center"),
    ],
    "el": [
        Text("ΑΠΟΔΕΙΞΗ", align="center", bold=True, width=2, height=2),
        Row("Γάλα 1 λίτρο", "1,29"),
        Row("Ψωμί ολικής", "2,10"),
        Row("ΣΥΝΟΛΟ", "€3,39", bold=True),
        Text("Ευχαριστούμε! Άρτος ΰ", align="center"),
    ],
}

TILE, STEP = (12, 15), (6, 7)
TILE_LIMIT = 0.08
FAINT_DOTS = 16
SHIFTS = [(x, y) for y in (0, -1, 1) for x in (0, -1, 1)]
"""A dot counts as the same when one is beside it, and a tile may sit one dot off as a whole: so far do two ways of
putting the same font on dots differ (3 dots of a hundred in the worst tile, measured by drawing smoothed letters and
cutting at half grey). Another letter or a missing mark is at least 10 of a hundred."""


def drawn(receipt: Sequence[Element], model: str = MODEL) -> Image.Image:
    """The receipt as the virtual printer puts it on paper, black and white."""
    encoded = encode(receipt, PROFILES[model])
    paper = Paper()
    reader = EscposReader(paper)
    reader.read(bytearray(encoded.data))
    assert reader.unknown_commands == 0
    return draw(paper.strip).point(lambda grey: 255 if grey > 128 else 0).convert("1")


def difference(golden: Image.Image, actual: Image.Image) -> str:
    """What differs, in words; empty when a reader would not see it."""
    if golden.size != actual.size:
        return f"is {actual.width} x {actual.height} dots, not {golden.width} x {golden.height}"
    ours, theirs = _ink(golden), _ink(actual)
    apart = [_apart(ours, ImageChops.offset(theirs, *shift)) for shift in SHIFTS]
    for top in range(0, golden.height, STEP[1]):
        for left in range(0, golden.width, STEP[0]):
            box = (left, top, left + TILE[0], top + TILE[1])
            if _count(apart[0].crop(box)) <= TILE_LIMIT * FAINT_DOTS:
                continue
            limit = TILE_LIMIT * max(FAINT_DOTS, _count(ours.crop(box)) + _count(theirs.crop(box)))
            if all(_count(one.crop(box)) > limit for one in apart):
                return f"what stands at {left}, {top} is another letter"
    return ""


def _ink(picture: Image.Image) -> Image.Image:
    return ImageChops.invert(picture.convert("L"))


def _apart(ours: Image.Image, theirs: Image.Image) -> Image.Image:
    """The dots of either that have none of the other's beside them."""
    return ImageChops.lighter(_without(ours, theirs), _without(theirs, ours))


def _without(dots: Image.Image, others: Image.Image) -> Image.Image:
    return ImageChops.subtract(dots, others.filter(ImageFilter.MaxFilter(3)))


def _count(picture: Image.Image) -> int:
    return sum(picture.histogram()[128:])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for language, receipt in RECEIPTS.items():
        drawn(receipt).save(folder / f"{language}.png", optimize=True)
        print(folder / f"{language}.png")
