"""What the gateway, its devices and the tills say of themselves; all retained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Id, Message
from edge.bus.messages.facts import FactClass, Outage

Link = Literal["online", "lan", "wan", "cloud", "unknown"]
"""What is broken between store and HQ: ``online`` when nothing is, ``unknown`` while the bridge has not said."""

ClockTrust = Literal["synced", "holdover", "unknown"]


class Backlog(Message):
    facts: int = Field(ge=0, description="accepted and not yet confirmed by HQ")
    oldest_s: int | None = Field(description="age of the oldest of them in seconds; null when there are none")
    eta_s: int | None = Field(default=None, ge=0, description="seconds until HQ has them, where it can be told")
    head: int = Field(default=0, ge=0, description="the last sequence in the journal")
    confirmed: int = Field(default=0, ge=0, description="the highest sequence up to which HQ has everything")
    evicted: int = Field(default=0, ge=0, description="facts that had to go before HQ had them: the disk was full")
    expired: int = Field(default=0, ge=0, description="facts that were too old to be of use before HQ had them")


class GatewayWarning(Message):
    code: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,63}$", description="stable; one warning of each code at a time")
    text: str = Field(min_length=1, max_length=500, description="what is wrong, and what a person should do")
    since: str = ""


class CloudCertificates(Message):
    """Until when the certificates of the link to HQ are good: RFC 3339 in UTC; null where there is none."""

    own_until: str | None = None
    broker_until: str | None = None


class GatewayStatus(Message):
    state: Literal["starting", "serving", "storage_full", "faulted", "stopped"]
    link: Link
    since: str = Field(description="when the link became so")
    link_detail: str = Field(default="", description="what was seen of the link, and what to do")
    backlog: dict[FactClass, Backlog] = Field(default_factory=dict)
    eta_s: int | None = Field(default=None, description="seconds until the backlog is drained, where it can be told")
    budget_wait_s: int = Field(
        default=0, ge=0, description="the line's budget is spent: all but critical facts wait so long"
    )
    parked: int = Field(default=0, ge=0, description="facts that HQ will never take: they stay in the journal")
    outages: tuple[Outage, ...] = Field(default=(), strict=False, description="the last ones, the newest first")
    epoch: str = ""
    clock: ClockTrust = "unknown"
    version: str = ""
    confirm: Literal["hq", "broker"] = "hq"
    lane_gaps: int = Field(default=0, description="facts known to be missing from lanes' sequences")
    conflicts: int = Field(default=0, description="facts with the id or lane sequence of another; both are kept")
    quarantined: int = 0
    disk_free_mb: int | None = Field(default=None, description="where the journal lies")
    price_version: str | None = None
    safe_to_switch_off: bool = False
    please: str = Field(default="", description="what a person should do; empty when nothing")
    configuration: int | None = Field(default=None, description="version of what HQ has set; null: as store.toml says")
    certificates: CloudCertificates = Field(default=CloudCertificates(), description="of the link to HQ")
    warnings: tuple[GatewayWarning, ...] = Field(
        default=(), strict=False, description="what is wrong and a person should mend; none of it stops a sale"
    )


DeviceState = Literal["unknown", "ready", "busy", "not_ready", "offline", "faulted"]


class LeaseShown(Message):
    """Which lane has a shared device for itself, and when that runs out unless it is claimed again."""

    lane: Id
    until: str = Field(description="UTC, by the gateway's clock")


class DeviceStatus(Message):
    """`state` and `detail` in UnifiedPOS words; ``unknown`` is a state of its own, never "offline" or "no paper"."""

    device: Id
    category: Literal["scanner", "printer", "scale", "drawer", "display"]
    state: DeviceState
    detail: dict[str, str | bool | None] = Field(default_factory=dict, description="e.g. paper: near_end")
    please: str = Field(default="", description="what a person should do; empty when nothing")
    lanes: tuple[Id, ...] = Field(default=(), strict=False)
    lease: LeaseShown | None = Field(default=None, description="null: nobody has it for itself")
    garbled: int = Field(default=0, description="frames that could not be read since start")
    since: str = ""


class Presence(Message):
    online: bool
    app: str = Field(default="", max_length=64)
    version: str = Field(default="", max_length=64)
    last_sequence: int = Field(default=0, ge=0)
