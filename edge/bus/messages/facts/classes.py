"""How important a fact is. Source: design page "Journal, bridge, HQ" (classes)."""

from __future__ import annotations

from enum import StrEnum


class FactClass(StrEnum):
    """How important a fact is, most important first; the order is the order of sending."""

    CRITICAL = "critical"
    TRANSACTION = "transaction"
    OPERATION = "operation"
    ENGAGEMENT = "engagement"
    TELEMETRY = "telemetry"

    @property
    def durable(self) -> bool:
        """Whether ``accepted`` waits for the disk (the others are on disk within 1 s)."""
        return self in (FactClass.CRITICAL, FactClass.TRANSACTION, FactClass.OPERATION)

    @property
    def evictable(self) -> bool:
        """Whether unconfirmed facts of this class may go when the disk fills."""
        return self in (FactClass.ENGAGEMENT, FactClass.TELEMETRY)
