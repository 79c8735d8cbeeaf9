"""All doors that a stranger, a till with a certificate, or a cloud broker in foreign hands reaches, by name."""

from __future__ import annotations

from tests.fuzz.door import Ways
from tests.fuzz.enrolment_answers import ENROLMENTS
from tests.fuzz.hostile import HOSTILE
from tests.fuzz.hostile_broker import HOSTILE_BROKERS
from tests.fuzz.lane_messages import LANE_MESSAGES

DOORS: Ways = {**ENROLMENTS, **HOSTILE, **HOSTILE_BROKERS, **LANE_MESSAGES}
