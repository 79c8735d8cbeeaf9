"""How each class of facts travels: one table. A new rule is one row here.

Which class a fact type belongs to stands in `edge.bus.messages.facts.FACTS`, because the gateway must know it before
there is a bridge; this table says what the bridge does with a class.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.bus.messages.facts import FactClass


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """`weight` is the share of the line while several classes wait, in bytes; None: first, always."""

    weight: int | None
    linger_ms: int
    """How long a batch that is not full may wait for more facts."""
    metered: bool
    """Waits when the hour's budget of the line is spent."""
    single_expiry_s: int | None
    """With ``wire = "single"``: how long the broker may keep the message for a reader that is away; None: for ever."""


POLICY: dict[FactClass, ClassPolicy] = {
    FactClass.CRITICAL: ClassPolicy(weight=None, linger_ms=0, metered=False, single_expiry_s=None),
    FactClass.TRANSACTION: ClassPolicy(weight=16, linger_ms=50, metered=True, single_expiry_s=None),
    FactClass.OPERATION: ClassPolicy(weight=8, linger_ms=50, metered=True, single_expiry_s=None),
    FactClass.ENGAGEMENT: ClassPolicy(weight=2, linger_ms=50, metered=True, single_expiry_s=7 * 86_400),
    FactClass.TELEMETRY: ClassPolicy(weight=1, linger_ms=50, metered=True, single_expiry_s=86_400),
}

COALESCE: dict[str, str] = {
    "tillgate.device.changed.v1": "device",
}
"""Fact type -> key in its data. With ``wire = "single"`` only the latest of a backlog with the same key is sent.
Batches carry everything: the chain has no holes, and compression makes repeats nearly free."""

BULK_IN_FLIGHT = 16
"""Batches of all classes but critical that may be on the wire unacknowledged, whatever the line bears (`flow`)."""

UNHEARD_BATCHES = 4
"""Batches that may leave before HQ has said anything on this connection: perhaps nobody is there."""

AHEAD_BATCHES = 64
AHEAD_BYTES = 2 * 1024 * 1024
"""How far sending may run ahead of what HQ has confirmed: all of it is sent again when HQ stays silent."""

GREETING_S = 1.0
"""How long HQ may take to say what it has, on a new connection, before sending begins without knowing."""

LATE_S = 3.0
"""The broker took a batch so long ago and HQ has not confirmed it: HQ is asked what it has. When it speaks and still
has not got it, the batch was lost between broker and database (a receiver died with it) and is sent again at once."""

ASK_TO_S = 30.0
"""An HQ that does not answer is asked less and less often, down to this."""

CONFIRM_WITHIN_S = 15.0
"""No confirmation for so long, while facts are out and the link is up: send again from what is confirmed."""

ACK_WITHIN_S = 20.0
"""No PUBACK for so long, though the broker answers pings: the connection is of no use, make another."""

THINNEST_BYTES_PER_S = 2_000
"""The thinnest line that is waited for: what is out may take so long on its way besides."""

RESEND_TO_S = 300.0
"""Sending again waits longer each time, up to this."""

BROKER_KEEPS_S = 600
"""Message expiry of a batch: what HQ has not confirmed is sent again anyway, so the broker need not hoard copies."""

MAX_BATCH_FACTS = 1_000
MAX_BATCH_RAW_BYTES = 2 * 1024 * 1024
"""Before compression; bounds what one batch costs in memory at both ends."""
