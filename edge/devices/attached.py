"""One configured device: what it is, who may use it, and how it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drivers import catalog
from drivers.driver import Driver
from drivers.scales.scale_driver import Scale, ScaleDriver
from edge.bus.envelope import now_utc
from edge.bus.messages.statuses import DeviceState

Category = catalog.Category
Detail = dict[str, str | bool | None]


@dataclass(slots=True, eq=False)
class Attached:
    """One configured device. `lanes`: the first is its home. `options` are those of its kind, read and checked.

    A device without a link of its own (a drawer, a display behind a printer) has no driver: `through` carries it.
    """

    id: str
    category: Category
    lanes: tuple[str, ...]
    options: Any = None
    driver: Driver | None = None
    through: Attached | None = None
    failover: str | None = None
    """The printer that stands in for this one."""
    failover_after_s: float = 0.0
    state: DeviceState = "unknown"
    detail: Detail = field(default_factory=dict)
    please: str = ""
    garbled: int = 0
    since: str = field(default_factory=now_utc)
    leased_to: str | None = None
    """The lane that has it for itself."""
    fault: str = ""
    """Why it is stopped: what is there is not what was configured."""
    broken: bool = False
    """Whether its driver met a bug and has not run well since."""

    @property
    def home(self) -> str:
        """The lane that it belongs to, whoever else may use it."""
        return self.lanes[0]

    @property
    def serves(self) -> str:
        """The lane that hears what it says by itself: the one that has leased it, else its home."""
        return self.leased_to or self.home

    @property
    def is_open(self) -> bool:
        """Whether the link to the device, or to the one that carries it, is up."""
        driver = self.driver or (self.through.driver if self.through else None)
        return driver is not None and driver.is_open

    @property
    def scale(self) -> Scale | None:
        """What is asked for a weight: the driver of a scale, or the scale of the scanner that carries it."""
        if isinstance(self.driver, ScaleDriver):
            return self.driver
        carried = getattr(self.through.driver, "scale", None) if self.through else None
        return carried if isinstance(carried, Scale) else None
