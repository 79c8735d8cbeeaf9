"""What edge and bridge tell each other over the store's broker (unix socket only), and store and HQ about the link."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from edge.bus.messages.base import EventId, Id, Message, Recorded
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.statuses import ClockTrust, CloudCertificates, DeviceState, Link


class JournalHeads(Message):
    """edge -> bridge, retained: the last sequence per class."""

    epoch: str
    heads: dict[FactClass, int]


class BridgeStatus(Message):
    """bridge -> edge, retained: the state of the link and what HQ has confirmed."""

    link: Link
    since: str
    detail: str = ""
    epoch: str = Field(default="", description="the journal epoch that `confirmed` speaks of")
    confirmed: dict[FactClass, int] = Field(default_factory=dict)
    parked: int = Field(default=0, description="facts HQ rejected, set aside")
    eta_s: int | None = None
    eta_by_class_s: dict[FactClass, int] = Field(default_factory=dict, description="of those that wait, where known")
    budget_wait_s: int = Field(default=0, ge=0, description="the line's budget is spent: bulk classes wait so long")
    outages: tuple[Outage, ...] = Field(default=(), strict=False, description="the last ones, the newest first")
    confirm: Literal["hq", "broker"] = "hq"
    certificates: CloudCertificates = CloudCertificates()
    warnings: dict[str, str] = Field(
        default_factory=dict, description="code -> what is wrong and a person should mend; of the codes in HQ_WARNINGS"
    )


HQ_WARNINGS = ("hq_certificate", "hq_broker_certificate", "hq_not_believed", "hq_certificate_refused")
"""What the bridge may warn of: edge shows each for as long as the bridge says it."""


class OutageRecorded(Message):
    """edge -> bridge: the outage with this id is a fact in the journal."""

    id: EventId


class Committed(Message):
    """edge -> bridge: a downlink message is on disk, or refused for good."""

    stream: str
    epoch: str
    seq: int
    ok: bool
    detail: str = ""


StreamKey = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63}:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
]
"""A stream of a store's own, or ``group:stream``."""


class Need(Message):
    """store -> HQ: where this store stands in each downlink stream; HQ answers with an `Offer` and what is missing."""

    store: Id
    ask: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="of this question alone: of several receivers one answers",
    )
    groups: tuple[Id, ...] = Field(default=(), strict=False, description="the groups that this store is in")
    have: dict[StreamKey, StreamPosition] = Field(
        description="stream, or group:stream -> the last position in hand; empty: nothing yet"
    )
    only_confirmed: bool = Field(default=False, description="only `Confirmed` is wanted, no offer and no messages")
    journal: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]{0,64}$",
        description="the journal epoch of which `Confirmed` is wanted; empty: the newest that HQ has heard of",
    )


class StreamPosition(Message):
    epoch: str
    seq: int = Field(ge=0, le=2**53)


class Offered(Message):
    """One stream: the numbers from `first` to `until` come now, `last` is the newest.

    Nothing below `first` and above the position that the store told will come any more: it is obsolete. Nothing comes
    at all when `until` is before `first`.
    """

    epoch: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    first: int = Field(ge=1, le=2**53 + 1)
    until: int = Field(ge=0, le=2**53)
    last: int = Field(ge=0, le=2**53)


class Offer(Message):
    """HQ -> store, on ``down/offer``: the answer to a `Need`."""

    ask: str
    streams: dict[StreamKey, Offered] = Field(description="stream, or group:stream; every one that there is")


class Confirmed(Message):
    """HQ -> store: the highest contiguous sequence per class that is in HQ's database, and what it will never take."""

    epoch: str
    confirmed: dict[FactClass, int]
    hashes: dict[FactClass, str] = Field(
        default_factory=dict,
        description="the chain's hash at `confirmed`, its first 16 hexadecimal digits, where HQ has it: a store that"
        " finds another there has not these facts",
    )
    rejected: dict[FactClass, list[int]] = Field(default_factory=dict)


class ClassStatus(Recorded):
    """One class of a store's journal, as HQ is told. What is 0 or null is left out."""

    head: int = Field(default=0, ge=0)
    confirmed: int = Field(default=0, ge=0)
    oldest_s: int | None = Field(default=None, ge=0, description="age of the oldest unconfirmed fact")
    evicted: int = Field(default=0, ge=0)
    expired: int = Field(default=0, ge=0)


class StoreStatus(Recorded):
    """store -> HQ: how the store is, in its own words; on connecting, on a change, once a minute, and as last will.

    The last will has link ``unknown`` and nothing besides `life` and `connection`. Readers keep what they do not know:
    a store may be newer than HQ.
    """

    link: Link
    life: str = Field(max_length=64, description="one run of the bridge")
    connection: int = Field(
        ge=0, le=2**53, description="counted in a life: a will belongs to the connection it was left with"
    )
    number: int = Field(
        default=0, ge=0, le=2**53, description="counted in a life: several receivers may get these out of order"
    )
    since: str = Field(default="", max_length=40, description="when the link came up, by the store's clock")
    online_s: int = Field(default=0, ge=0, description="how long ago that is, by the monotonic clock")
    state: Literal["starting", "serving", "storage_full", "faulted", "stopped", "unknown"] = "unknown"
    version: str = Field(default="", max_length=64)
    epoch: str = Field(default="", max_length=64)
    clock: ClockTrust = "unknown"
    classes: dict[FactClass, ClassStatus] = Field(default_factory=dict)
    parked: int = Field(default=0, ge=0)
    lane_gaps: int = Field(default=0, ge=0, description="facts known to be missing from lanes' sequences")
    conflicts: int = Field(default=0, ge=0)
    quarantined: int = Field(default=0, ge=0)
    devices: int = Field(default=0, ge=0, description="configured")
    device_faults: dict[Id, DeviceState] = Field(default_factory=dict, max_length=16, description="those not well")
    eta_s: int | None = Field(default=None, ge=0)
    budget_wait_s: int = Field(default=0, ge=0)
    confirm: Literal["hq", "broker"] = "hq"
    price_version: str | None = Field(default=None, max_length=200)
    disk_free_mb: int | None = Field(default=None, ge=0)
    certificate_days: int | None = Field(default=None, description="until its own certificate ends, by its clock")
    broker_certificate_days: int | None = Field(default=None, description="until the broker's ends")
    trouble: str = Field(default="", max_length=500, description="what a person should know although the link is up")
    outage: Outage | None = Field(default=None, description="the last one")
