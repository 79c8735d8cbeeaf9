"""All doors that a stranger, a till with a certificate, or a cloud broker in foreign hands reaches, by name."""

from __future__ import annotations

from tests.fuzz.door import Ways
from tests.fuzz.lane_messages import LANE_MESSAGES

DOORS: Ways = {**LANE_MESSAGES}
