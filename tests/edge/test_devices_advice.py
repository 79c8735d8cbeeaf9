"""Whatever keeps a device from its work has words for a person."""

from __future__ import annotations

from typing import get_args

import pytest

from drivers.events import ScaleFault
from drivers.scales import scale_driver
from edge.devices.advice import SCALE_STUCK, please

SCALES_SAY = {"in_motion", "over", "under_zero", "no_answer", "unchanged", "unsupported", *get_args(ScaleFault)}


@pytest.mark.parametrize("reason", sorted(SCALES_SAY))
def test_every_reason_of_a_scale_has_words_of_its_own(reason: str) -> None:
    assert please("scale-1", reason) != please("scale-1", "lost")
    assert scale_driver.ADVICE[reason]


def test_what_keeps_a_scale_stuck_is_a_reason_of_scales() -> None:
    assert SCALE_STUCK <= SCALES_SAY
