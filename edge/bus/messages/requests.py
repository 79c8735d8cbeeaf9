"""What a till may ask: the request form, and one class of parameters per operation.

Strategy: `OPERATIONS` maps the last topic level to its parameters. An operation that moves paper, money or a drawer is
marked `remembered`: its answer is kept on disk for a day, and repeating the id repeats the answer, not the effect.

Source: design page "The local bus" (operations, idempotence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Base64Bytes, Field, StringConstraints, model_validator

from edge.bus.messages.base import EventId, Id, Message, Minor, Quantity

DEFAULT_DEADLINE_MS = 5_000
MAX_DEADLINE_MS = 120_000
MAX_WATCH_MS = 60_000


class Request(Message):
    """The payload on ``lanes/{lane}/requests/{operation}``."""

    id: EventId = Field(description="chosen by the till; repeat it to ask for the same answer again")
    deadline_ms: int = Field(default=DEFAULT_DEADLINE_MS, ge=1, le=MAX_DEADLINE_MS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    session: str | None = Field(default=None, max_length=128, repr=False, description="of person.log_in at this lane")
    grant: str | None = Field(default=None, max_length=128, repr=False, description="of override.grant, for this once")


LeaseToken = Annotated[
    int | None,
    Field(ge=1, description="the token of device.claim; refused as expired when the device has changed hands since"),
]

# -- printing ----------------------------------------------------------------------------------------------------------


# The elements of a document have the same names and fields as those of the receipt encoder
# (drivers/printers/document.py), but for the drawer: it is opened by `drawer.open`, where it leaves a fact.

Multiple = Annotated[int, Field(ge=1, le=8)]
"""Of the normal character's width or height."""


class Text(Message):
    kind: Literal["text"]
    text: str = Field(max_length=4000)
    align: Literal["left", "center", "right"] = "left"
    bold: bool = False
    underline: bool = False
    invert: bool = False
    width: Multiple = 1
    height: Multiple = 1
    font: Literal["A", "B"] = Field(default="A", description="B: the printer's small letters")


class Row(Message):
    kind: Literal["row"]
    left: str = Field(max_length=200)
    right: str = Field(max_length=200)
    bold: bool = False
    width: Multiple = 1
    height: Multiple = 1


class Columns(Message):
    kind: Literal["columns"]
    texts: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=8)
    widths: list[Annotated[int, Field(ge=0, le=80)]] = Field(
        min_length=1, max_length=8, description="in characters, one for each text; one of them may be 0: the rest"
    )
    aligns: list[Literal["left", "center", "right"]] = Field(
        default_factory=list, max_length=8, description="one for each text; all left when left out"
    )
    bold: bool = False
    font: Literal["A", "B"] = "A"


class Rule(Message):
    kind: Literal["rule"]
    character: str = Field(default="-", min_length=1, max_length=1)


class Barcode(Message):
    kind: Literal["barcode"]
    data: str = Field(min_length=1, max_length=80)
    symbology: Literal[
        "EAN13", "EAN8", "UPC-A", "UPC-E", "CODE39", "CODE93", "CODE128", "GS1-128", "ITF", "ITF14", "CODABAR"
    ] = Field(default="CODE128", description="GS1-128 data is written (01)09506000134352(10)ABC")
    height_dots: int = Field(default=64, ge=1, le=255)
    width: int = Field(default=2, ge=2, le=6)
    text: Literal["below", "above", "none"] = "below"


class Qr(Message):
    kind: Literal["qr"]
    data: str = Field(min_length=1, max_length=1000)
    size: int = Field(default=4, ge=1, le=16)
    level: Literal["L", "M", "Q", "H"] = "M"


class Image(Message):
    kind: Literal["image"]
    png: str = Field(max_length=200_000, description="a PNG picture in base64")
    align: Literal["left", "center", "right"] = "center"


class Feed(Message):
    kind: Literal["feed"]
    lines: int = Field(default=1, ge=1, le=255)


class Cut(Message):
    kind: Literal["cut"]
    partial: bool = True


Element = Annotated[Text | Row | Columns | Rule | Barcode | Qr | Image | Feed | Cut, Field(discriminator="kind")]


class Print(Message):
    job: Id | None = Field(default=None, description="the job's id; the request's id when left out")
    device: Id | None = Field(default=None, description="a printer of this lane; the lane's only one when left out")
    document: list[Element] | None = Field(default=None, max_length=2000)
    raw: Base64Bytes | None = Field(
        default=None, strict=False, description="commands of the printer's own (ESC/POS; ZPL for labels), in base64"
    )
    ttl_ms: int = Field(default=60_000, ge=1_000, le=86_400_000, description="never printed after this long")
    lease: LeaseToken = None


class PrintState(Message):
    job: Id


class PrintCancel(Message):
    job: Id


class PrintReprint(Message):
    job: Id
    reason: str = Field(min_length=1, max_length=200)
    lease: LeaseToken = None


# -- drawer, scale, scans, prices --------------------------------------------------------------------------------------


class DrawerOpen(Message):
    device: Id | None = None
    operator_id: Id
    receipt_number: str | None = Field(default=None, max_length=64)
    reason: str | None = Field(default=None, max_length=200, description="required when there is no receipt_number")
    lease: LeaseToken = None


class DrawerState(Message):
    device: Id | None = None


class DisplayShow(Message):
    """Either `lines`, or a `template` with its fields: item (`text`, `amount_minor`), total (`total_minor`), idle."""

    device: Id | None = Field(default=None, description="a display of this lane; the lane's only one when left out")
    lines: list[Annotated[str, Field(max_length=200)]] | None = Field(default=None, min_length=1, max_length=4)
    template: Literal["item", "total", "idle"] | None = None
    text: str | None = Field(default=None, max_length=200, description="the item; the word before a total")
    quantity: Quantity | None = None
    unit: str | None = Field(default=None, max_length=8, description="of the quantity: kg")
    unit_price_minor: Minor | None = None
    amount_minor: Minor | None = None
    total_minor: Minor | None = None
    change_minor: Minor | None = None
    change_text: str = Field(default="Change", max_length=40, description="the word before the change")
    for_ms: int | None = Field(default=None, ge=1, le=3_600_000, description="then the idle text comes back")
    lease: LeaseToken = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.lines is None) == (self.template is None):
            raise ValueError("give either 'lines' or 'template'")
        if self.template == "item" and (self.text is None or self.amount_minor is None):
            raise ValueError("template 'item' needs 'text' and 'amount_minor'")
        if self.template == "total" and self.total_minor is None:
            raise ValueError("template 'total' needs 'total_minor'")
        return self


class ScaleWeigh(Message):
    device: Id | None = None
    lease: LeaseToken = None


class ScaleZero(Message):
    device: Id | None = None
    lease: LeaseToken = None


class ScaleTare(Message):
    """Without `value` and `clear`: what lies on the plate is the tare."""

    device: Id | None = None
    lease: LeaseToken = None
    value: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")] | None = Field(
        default=None, description="a known tare, in the unit that the scale weighs in"
    )
    unit: Literal["kg", "g", "lb", "oz"] | None = Field(default=None, description="of `value`, and given with it")
    clear: bool = Field(default=False, description="take the tare off instead")

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if (self.value is None) != (self.unit is None):
            raise ValueError("a known tare needs both value and unit")
        if self.clear and self.value is not None:
            raise ValueError("either a known tare or clear, not both")
        return self


class ScaleWatch(Message):
    device: Id | None = None
    for_ms: int = Field(default=30_000, ge=0, le=MAX_WATCH_MS, description="watching again prolongs; 0 ends it at once")
    lease: LeaseToken = None


class ScanRecent(Message):
    limit: int = Field(default=10, ge=1, le=100)


class PriceLookup(Message):
    code: str = Field(min_length=1, max_length=64)


class Help(Message):
    operation: str | None = None


class DeviceClaim(Message):
    device: Id
    for_ms: int = Field(default=30_000, ge=1_000, le=600_000, description="from now; claim again before it is over")
    lease: LeaseToken = None
    takeover: bool = Field(default=False, description="also from another lane; a supervisor's decision, recorded")
    operator_id: Id | None = Field(default=None, description="the supervisor; required with takeover")
    reason: str | None = Field(default=None, max_length=200, description="required with takeover")


class DeviceRelease(Message):
    device: Id
    lease: LeaseToken = None


# -- people ------------------------------------------------------------------------------------------------------------


Password = Annotated[str, Field(min_length=1, max_length=256, json_schema_extra={"format": "password"})]
"""A password or PIN; longer than any that is taken, so that a wrong one is answered as such."""

SecondFactor = Annotated[
    str | None,
    Field(
        max_length=64,
        description="of the person's authenticator app (two in a row where a clock is wrong), or a recovery code",
    ),
]


class PersonLogIn(Message):
    person: Id
    password: Password = Field(repr=False)
    code: SecondFactor = Field(default=None, repr=False)


class PersonLogOut(Message):
    pass


class OverrideGrant(Message):
    operation: Literal["drawer.open", "device.claim"] = Field(description="what shall be done")
    parameters: dict[str, Any] = Field(description="its parameters, exactly as they will be sent")
    person: Id = Field(description="who approves: another person than the one who is logged in")
    password: Password = Field(repr=False)
    code: SecondFactor = Field(default=None, repr=False)


class RenewCertificate(Message):
    csr: str = Field(
        min_length=1,
        max_length=4_096,
        description="PKCS #10 in PEM, by a P-256 key that the till has made itself; its subject is ignored",
    )


class StrangerReport(Message):
    """A gateway that a till has met and that could not prove that it is this store's."""

    host: str = Field(min_length=1, max_length=64)
    port: int = Field(ge=1, le=65_535)
    ca: str | None = Field(default=None, max_length=128)
    why: str = Field(max_length=200)


@dataclass(frozen=True, slots=True)
class Operation:
    """`secret`: its parameters hold a password; of a request that is refused, nothing of them is kept or shown."""

    name: str
    parameters: type[Message]
    summary: str
    remembered: bool = False
    secret: bool = False


def is_secret(name: str) -> bool:
    """Whether an operation's parameters hold a password, or may: one that is misspelt counts, too."""
    operation = OPERATIONS.get(name)
    return operation.secret if operation is not None else name.startswith(("person", "override"))


OPERATIONS: dict[str, Operation] = {
    row.name: row
    for row in (
        Operation("print", Print, "Print a document or raw bytes, once.", remembered=True),
        Operation("print.state", PrintState, "What became of a print job."),
        Operation("print.cancel", PrintCancel, "Take a job back that has not started.", remembered=True),
        Operation("print.reprint", PrintReprint, "Print a job again, marked DUPLICATE.", remembered=True),
        Operation("drawer.open", DrawerOpen, "Open the cash drawer.", remembered=True),
        Operation("drawer.state", DrawerState, "Whether the drawer is open."),
        Operation("display.show", DisplayShow, "Show lines, an item or a total to the customer; the newest wins."),
        Operation("scale.weigh", ScaleWeigh, "A stable weight, or why there is none."),
        Operation("scale.zero", ScaleZero, "Set the empty scale to zero."),
        Operation("scale.tare", ScaleTare, "Take what lies on the scale as tare, set a known tare, or clear it."),
        Operation("scale.watch", ScaleWatch, "Send live weights for a while."),
        Operation("device.claim", DeviceClaim, "Have a shared device for this lane alone, for a while."),
        Operation("device.release", DeviceRelease, "Give a claimed device back."),
        Operation("scan.recent", ScanRecent, "The lane's last scans, newest first."),
        Operation("price.lookup", PriceLookup, "The price of a code in the active price version."),
        Operation("person.log_in", PersonLogIn, "Log a person in at this lane.", secret=True),
        Operation("person.log_out", PersonLogOut, "Log out whose session the request carries."),
        Operation("override.grant", OverrideGrant, "A second person approves of one request.", secret=True),
        Operation("certificate.renew", RenewCertificate, "A new certificate for this lane, before the old one ends."),
        Operation("stranger.report", StrangerReport, "Tell of somebody who answers for this gateway and is not it."),
        Operation("help", Help, "The operations and their parameters as JSON Schema."),
    )
}
