"""The one answer form, and every problem code.

A reply goes to ``lanes/{lane}/replies`` (or the MQTT 5 Response Topic) and names in `to` what it answers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import orjson

from edge.bus.messages.base import Message


class Code(StrEnum):
    """Problem codes: stable, documented, never renamed."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_OPERATION = "unknown_operation"
    TOO_LARGE = "too_large"
    TOO_FAST = "too_fast"
    NOT_YOURS = "not_yours"
    NOT_READY = "not_ready"
    NOT_FOUND = "not_found"
    DEVICE_LOST = "device_lost"
    UNKNOWN_OUTCOME = "unknown_outcome"
    TIMED_OUT = "timed_out"
    STORAGE_FULL = "storage_full"
    CARD_NUMBER_REFUSED = "card_number_refused"
    CONFLICT = "conflict"
    EXPIRED = "expired"
    LOG_IN_REFUSED = "log_in_refused"
    NOT_LOGGED_IN = "not_logged_in"
    NOT_ALLOWED = "not_allowed"
    APPROVAL_NEEDED = "approval_needed"
    FAULTED = "faulted"


TITLES: dict[Code, str] = {
    Code.BAD_MESSAGE: "The message cannot be read; correct it and send it again with a new id.",
    Code.UNKNOWN_OPERATION: "There is no such operation; ask 'help' for the list.",
    Code.TOO_LARGE: "The message is larger than the gateway takes.",
    Code.TOO_FAST: "This lane sends too much at once; wait and send again.",
    Code.NOT_YOURS: "This belongs to another lane.",
    Code.NOT_READY: "The device cannot do it now; a person can help.",
    Code.NOT_FOUND: "The gateway knows nothing under this name.",
    Code.DEVICE_LOST: "The device does not answer; check cable and power.",
    Code.UNKNOWN_OUTCOME: "It may or may not have happened; look, then decide.",
    Code.TIMED_OUT: "It was not done within the deadline.",
    Code.STORAGE_FULL: "The gateway's disk is full; keep the fact and tell a technician.",
    Code.CARD_NUMBER_REFUSED: "The message holds a card number; it must not.",
    Code.CONFLICT: "The same id or sequence came with other content; both are kept.",
    Code.EXPIRED: "It came too late to be done.",
    Code.LOG_IN_REFUSED: "Person, password or code is wrong.",
    Code.NOT_LOGGED_IN: "Nobody is logged in here; log in and ask again.",
    Code.NOT_ALLOWED: "This person may not do that.",
    Code.APPROVAL_NEEDED: "A second person must approve of it.",
    Code.FAULTED: "The gateway has a fault of its own; it is logged and a technician is told.",
}


class Problem(Message):
    code: Code
    title: str
    detail: str = ""
    retry_after_ms: int | None = None


class Reply(Message):
    to: str | None
    ok: bool
    result: dict[str, Any] | None = None
    problem: Problem | None = None


class ProblemError(Exception):
    """Raised by whoever cannot serve a request or take a fact; becomes the `problem` of the reply."""

    def __init__(self, code: Code, detail: str = "", *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {detail or TITLES[code]}")
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms


def accepted(to: str, fact_class: str, seq: int, epoch: str) -> bytes:
    """The reply that a fact is on disk. Built without a model: one leaves for every fact."""
    return orjson.dumps(
        {"to": to, "ok": True, "result": {"accepted": True, "class": fact_class, "seq": seq, "epoch": epoch}}
    )


def done(to: str, result: dict[str, Any]) -> bytes:
    return orjson.dumps({"to": to, "ok": True, "result": result})


def refused(to: str | None, error: ProblemError) -> bytes:
    problem: dict[str, Any] = {"code": error.code, "title": TITLES[error.code], "detail": error.detail}
    if error.retry_after_ms is not None:
        problem["retry_after_ms"] = error.retry_after_ms
    return orjson.dumps({"to": to, "ok": False, "problem": problem})
