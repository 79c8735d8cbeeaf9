"""Who did what: the audit's one fact, and the table of what is recorded in it.

An audit entry is a fact like any other: chained, sealed, sent to HQ and verified by what does that for all facts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Recorded

AuditOutcome = Literal["done", "refused", "failed"]
"""`refused`: it was not allowed. `failed`: it was, and did not come to pass."""


class AuditAction(StrEnum):
    """What is recorded; `AUDIT_ACTIONS` says what each means. A name, once it was recorded, never changes."""

    LANE_INVITED = "lane.invited"
    LANE_INVITATION_WITHDRAWN = "lane.invitation_withdrawn"
    LANE_ENROLLED = "lane.enrolled"
    LANE_RENEWED = "lane.renewed"
    LANE_REVOKED = "lane.revoked"
    LANE_REFUSED = "lane.refused"
    LANE_CUT = "lane.cut"
    AUTHORITY_MADE = "authority.made"
    AUTHORITY_ROTATED = "authority.rotated"
    KEY_MADE = "key.made"
    KEY_ROTATED = "key.rotated"
    PERSON_ADDED = "person.added"
    PERSON_CHANGED = "person.changed"
    PERSON_DISABLED = "person.disabled"
    PERSON_LOGGED_IN = "person.logged_in"
    PERSON_LOGGED_OUT = "person.logged_out"
    PERSON_LOCKED = "person.locked"
    PERSON_UNLOCKED = "person.unlocked"
    RECOVERY_CODE_USED = "recovery_code.used"
    OVERRIDE_GRANTED = "override.granted"
    OVERRIDE_USED = "override.used"
    DRAWER_WITHOUT_SALE = "drawer.without_sale"
    DEVICE_TAKEN_OVER = "device.taken_over"
    SUBJECT_ERASED = "subject.erased"
    SUBJECT_EXPORTED = "subject.exported"
    SUBJECT_READMITTED = "subject.readmitted"
    COMMAND_FROM_HQ = "command.from_hq"
    HQ_NOT_BELIEVED = "hq.not_believed"
    CONFIGURATION_CHANGED = "configuration.changed"
    STRANGER_SEEN = "stranger.seen"
    CARD_NUMBER_REFUSED = "card_number.refused"
    BOX_ASKED = "box.asked"


_A = AuditAction

AUDIT_ACTIONS: dict[AuditAction, str] = {
    _A.LANE_INVITED: "a code was made with which a till can enrol at a lane",
    _A.LANE_INVITATION_WITHDRAWN: "such a code was taken back, or is dead after too many wrong tries",
    _A.LANE_ENROLLED: "a till enrolled at a lane, or tried to (refused)",
    _A.LANE_RENEWED: "a till whose certificate had expired was given a new one, or not (refused)",
    _A.LANE_REVOKED: "a lane's certificates were made worthless",
    _A.LANE_REFUSED: "a lane that may not be here, or may not do this, was refused",
    _A.LANE_CUT: "a lane that sent far too much was cut off for a while",
    _A.AUTHORITY_MADE: "this journal begins to know the store's authority, at the first start usually",
    _A.AUTHORITY_ROTATED: "the store's authority was replaced, or the former one is believed no more",
    _A.KEY_MADE: "this journal begins to know the key that seals what is on disk, at the first start usually",
    _A.KEY_ROTATED: "a key that seals what is on disk was replaced, or what lay there was sealed anew by it",
    _A.PERSON_ADDED: "a person was added",
    _A.PERSON_CHANGED: "a person's role, name, password, second factor or recovery codes were changed",
    _A.PERSON_DISABLED: "a person may not log in any more, or may again",
    _A.PERSON_LOGGED_IN: "a person logged in, or tried to (refused)",
    _A.PERSON_LOGGED_OUT: "a session ended: log-out, time, or taken away",
    _A.PERSON_LOCKED: "a person or a place must wait after wrong tries",
    _A.PERSON_UNLOCKED: "somebody ended such a wait",
    _A.RECOVERY_CODE_USED: "one of a person's recovery codes was used up",
    _A.OVERRIDE_GRANTED: "a second person approved of something",
    _A.OVERRIDE_USED: "what a second person had approved was done, or something else was tried with it (refused)",
    _A.DRAWER_WITHOUT_SALE: "a drawer was opened without a receipt",
    _A.DEVICE_TAKEN_OVER: "a device was taken from another lane",
    _A.SUBJECT_ERASED: "the key to everything kept about one customer was destroyed",
    _A.SUBJECT_EXPORTED: "everything kept about one customer was given out",
    _A.SUBJECT_READMITTED: "a customer who had been erased may be known again, from then on",
    _A.COMMAND_FROM_HQ: "a command that HQ signed was carried out, or not",
    _A.HQ_NOT_BELIEVED: "something came in HQ's name that is not HQ's, or was HQ's and came again",
    _A.CONFIGURATION_CHANGED: "the gateway runs with another configuration than before",
    _A.STRANGER_SEEN: "something else in the network answers for this gateway",
    _A.CARD_NUMBER_REFUSED: "a payload held a card number and was refused",
    _A.BOX_ASKED: "a command at the box that leaves no other entry, or any that was refused for want of a right",
}


class AuditRecorded(Recorded):
    action: str = Field(pattern=r"^[a-z_]+\.[a-z_]+$", description="one of AuditAction, or a newer gateway's")
    outcome: AuditOutcome
    person: str | None = Field(
        default=None, max_length=64, description="who did it: a person's id, `box:USER`, `hq`, or null"
    )
    second_person: str | None = Field(default=None, max_length=64, description="who approved of it")
    role: str | None = Field(default=None, max_length=32, description="of `person`, at that moment")
    lane: str | None = Field(default=None, max_length=64)
    subject: str | None = Field(default=None, max_length=200, description="whom or what it was done to")
    detail: str = Field(default="", max_length=500)
    count: int = Field(
        default=1, ge=1, description="so many of this since it was last told; above 1 the rest is said of the last one"
    )
