"""HQ's end of notices: signed into the log, listed, withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, insert, select

from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.schema import notices_sent
from cloud_bridge.hq.signing import signed
from cloud_bridge.hq.text import aligned
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.notices import NOTICES_STREAM, Level, Notice
from edge.card_numbers import in_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class BadNotice(ValueError):
    """The notice cannot be published; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class NoticeView:
    """A notice as it was last published; withdrawn when `text` is empty."""

    id: str
    to: str
    text: str
    level: str
    issued_at: str
    until: str

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def publish(
    engine: Engine, key: Ed25519PrivateKey, to: Recipient, *, id_: str, text: str, level: Level, until: str
) -> tuple[str, bytes]:
    """Number, sign and log one notice; returns topic and payload to publish. BadNotice."""
    fields = {"id": id_, "text": text, "level": level, "issued_at": now_utc(), "until": until}
    try:
        Notice.model_validate({**fields, **to.address, "epoch": "x", "seq": 1})
    except ValidationError as error:
        raise BadNotice(first_error(error)) from None
    if (place := in_json(fields)) is not None:
        raise BadNotice(f"{place}; stores refuse it")

    def note(db: Connection, _: str, seq: int) -> None:
        db.execute(insert(notices_sent).values({**fields, "scope": to.scope, "seq": seq}))

    make = signed(NOTICES_STREAM, "notice", to, Notice, fields, key)
    ((_, payload),) = Downlog(engine).append(to.scope, NOTICES_STREAM, [make], note)
    return to.topic(NOTICES_STREAM), payload


def withdraw(engine: Engine, key: Ed25519PrivateKey, id_: str) -> list[tuple[str, bytes]]:
    """Withdraw a notice wherever it was published; returns topics and payloads. BadNotice when there is none."""
    out: list[tuple[str, bytes]] = []
    for scope, view in _newest(engine).items():
        if scope[1] == id_ and view.text:
            kind, _, name = scope[0].partition("/")
            to = Recipient(store=name) if kind == "stores" else Recipient(group=name)
            out.append(publish(engine, key, to, id_=id_, text="", level="info", until=view.until))
    if not out:
        raise BadNotice(f"there is no notice {id_!r} that could be withdrawn; `tillgate hq notice list` shows them")
    return out


def look(engine: Engine, *, everything: bool = False) -> list[NoticeView]:
    """The notices in force, the newest first; `everything`: also those that are over or withdrawn."""
    now = now_utc()
    views = [view for view in _newest(engine).values() if everything or (view.text and view.until > now)]
    return sorted(views, key=lambda view: view.issued_at, reverse=True)


def _newest(engine: Engine) -> dict[tuple[str, str], NoticeView]:
    """By scope and id."""
    with engine.connect() as db:
        rows = db.execute(select(notices_sent).order_by(notices_sent.c.seq)).all()
    return {
        (row.scope, row.id): NoticeView(row.id, _to(row.scope), row.text, row.level, row.issued_at, row.until)
        for row in rows
    }


def _to(scope: str) -> str:
    kind, _, name = scope.partition("/")
    return f"{kind.removesuffix('s')} {name}"


def table(views: Sequence[NoticeView]) -> str:
    """As text, one line each."""
    lines = [["issued", "until", "to", "level", "id", "text"]]
    lines += [[view.issued_at, view.until, view.to, view.level, view.id, view.text or "(withdrawn)"] for view in views]
    return aligned(lines)
