"""Every topic of the local bus and of the cloud link, spelled here and nowhere else.

Strategy: one function per topic. A function given an id returns the topic to publish on; the constants ending in
``_ANY`` are the matching subscription filters. Ids are checked here because an id that carries ``/``, ``+`` or ``#``
would reach somebody else's topic.

Source: design page "The local bus" (topic table), "Journal, bridge, HQ" (cloud topics).
"""

from __future__ import annotations

import re

ROOT = "tg/v1"

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""What a store, lane or device id may look like: 1-64 characters, safe in a topic, a file name and a host name."""

_ID = re.compile(ID_PATTERN)

# -- the local bus: what a till sees ---------------------------------------------------------------------------------

GATEWAY_STATUS = f"{ROOT}/gateway/status"
DEVICES_STATUS_ANY = f"{ROOT}/devices/+/status"
LANE_FACTS_ANY = f"{ROOT}/lanes/+/facts"
LANE_REQUESTS_ANY = f"{ROOT}/lanes/+/requests/+"
LANE_PRESENCE_ANY = f"{ROOT}/lanes/+/presence"
LANE_SCANS_ANY = f"{ROOT}/lanes/+/scans"
STORE_ANY = f"{ROOT}/store/+"


def device_status(device: str) -> str:
    return f"{ROOT}/devices/{_checked(device)}/status"


def lane_scans(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/scans"


def lane_rejected(lane: str) -> str:
    return f"{lane_scans(lane)}/rejected"


def lane_weights(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/weights"


def lane_facts(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/facts"


def lane_request(lane: str, operation: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/requests/{_checked(operation)}"


def lane_requests_any(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/requests/+"


def lane_replies(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/replies"


def lane_presence(lane: str) -> str:
    return f"{ROOT}/lanes/{_checked(lane)}/presence"


def store_subject(subject: str) -> str:
    return f"{ROOT}/store/{_checked(subject)}"


def lane_of(topic: str) -> str:
    """The lane a ``lanes/{lane}/...`` topic belongs to; ValueError for any other topic."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[2] != "lanes":
        raise ValueError(f"{topic!r} is not a lane's topic")
    return parts[3]


def operation_of(topic: str) -> str:
    """The operation a ``lanes/{lane}/requests/{operation}`` topic asks for; ValueError for any other topic."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[-2] != "requests" or (parts[2], len(parts)) not in (("lanes", 6), ("technician", 5)):
        raise ValueError(f"{topic!r} is not a request topic")
    return parts[-1]


def takes_replies(topic: str, lane: str) -> bool:
    """Whether ``topic`` is where ``lane`` may be answered: its replies or below, and a plain topic, not a filter."""
    replies = lane_replies(lane)
    return (topic == replies or topic.startswith(f"{replies}/")) and not any(c in topic for c in "+#\0")


# What the broker lets a till do on its own listener; ``%u`` is the client's name, which is its lane id.
TILL_MAY_WRITE = (f"{ROOT}/lanes/%u/facts", f"{ROOT}/lanes/%u/requests/+", f"{ROOT}/lanes/%u/presence")
# What it wrote itself it may not read, except its presence: a client that sends to itself and does not take it fills
# the broker's memory.
TILL_MAY_READ = (
    *(f"{ROOT}/lanes/%u/{part}" for part in ("scans", "scans/rejected", "weights", "replies/#", "presence")),
    f"{ROOT}/devices/#",
    f"{ROOT}/gateway/#",
    f"{ROOT}/store/#",
)


def swept(token: str) -> str:
    """edge -> itself, on the unix socket only: what the broker had retained has all come."""
    return f"{ROOT}/bridge/swept/{_checked(token)}"


# -- between edge and bridge, on the unix socket only: no till can read or write these -------------------------------

JOURNAL_HEADS = f"{ROOT}/bridge/heads"
"""edge -> bridge: the journal has grown; retained."""

BRIDGE_STATUS = f"{ROOT}/bridge/status"
"""bridge -> edge: link cause, confirmed sequences, drain estimate; retained, with a last will."""

BRIDGE_OUTAGE = f"{ROOT}/bridge/outage"
"""bridge -> edge: an outage is over and drained, to be journalled."""

BRIDGE_OUTAGE_RECORDED = f"{ROOT}/bridge/outage/recorded"
"""edge -> bridge: it is in the journal."""

BRIDGE_DOWN_ANY = f"{ROOT}/bridge/down/+"
BRIDGE_COMMITTED = f"{ROOT}/bridge/committed"
"""edge -> bridge: a downlink message is on disk (or refused for good)."""


def bridge_down(stream: str) -> str:
    """bridge -> edge: one downlink message, byte for byte as HQ signed it."""
    return f"{ROOT}/bridge/down/{_checked(stream)}"


# -- a technician at the box, on the unix socket only ------------------------------------------------------------------

TECHNICIAN_REQUESTS_ANY = f"{ROOT}/technician/requests/+"
TECHNICIAN_REPLIES = f"{ROOT}/technician/replies"
"""gateway -> whoever asked: `to` names the request."""


def technician_request(operation: str) -> str:
    """`tillgate devices ...` -> gateway: device.test, device.identify, device.record, device.calibrate."""
    return f"{ROOT}/technician/requests/{_checked(operation)}"


# -- the cloud link ----------------------------------------------------------------------------------------------------

HQ_UP_ANY = f"{ROOT}/+/up/#"
HQ_UP_SHARED = f"$share/hq/{HQ_UP_ANY}"


def up(store: str, fact_class: str) -> str:
    """store -> HQ: batches of one class."""
    return f"{ROOT}/{_checked(store)}/up/{_checked(fact_class)}"


def up_need(store: str) -> str:
    """store -> HQ: which downlink messages this store has, and so which it misses."""
    return f"{ROOT}/{_checked(store)}/up/need"


def up_certificate(store: str) -> str:
    """store -> HQ: a request for the store's next certificate; answered on ``down/certificate``."""
    return f"{ROOT}/{_checked(store)}/up/certificate"


def up_status(store: str) -> str:
    """store -> HQ: how the store is, in its own words; also the last will of its connection."""
    return f"{ROOT}/{_checked(store)}/up/status"


def confirmed(store: str) -> str:
    """HQ -> store: the highest contiguous sequence per (epoch, class) in HQ's database."""
    return f"{ROOT}/{_checked(store)}/confirmed"


def down(store: str, stream: str) -> str:
    return f"{ROOT}/{_checked(store)}/down/{_checked(stream)}"


OFFER_LEVEL = "offer"
"""A name that no stream has: HQ's answer to `up_need` comes on ``down/offer``."""


def down_offer(store: str) -> str:
    """HQ -> store: which streams there are, how far they go, and what of them comes now."""
    return down(store, OFFER_LEVEL)


def down_any(store: str) -> str:
    return f"{ROOT}/{_checked(store)}/down/+"


def group_down(group: str, stream: str) -> str:
    return f"{ROOT}/groups/{_checked(group)}/down/{_checked(stream)}"


def group_down_any(group: str) -> str:
    return f"{ROOT}/groups/{_checked(group)}/down/+"


def store_of(topic: str) -> str:
    """The store an uplink topic comes from; ValueError for any other topic."""
    parts = topic.split("/")
    if len(parts) != 5 or parts[3] != "up":
        raise ValueError(f"{topic!r} is not an uplink topic")
    return parts[2]


def last_level(topic: str) -> str:
    """The last level: the class of an uplink topic, the stream of a downlink topic."""
    return topic.rsplit("/", 1)[-1]


def _checked(part: str) -> str:
    if not _ID.match(part):
        raise ValueError(f"{part!r} cannot stand in a topic: use letters, digits, '_', '.', '-' (at most 64)")
    return part
