"""``store.toml`` to a frozen, typed configuration. An error names the file, the key, the line and what would be right.

Strategy: TOML is read by the standard library, shape and ranges are checked by pydantic, and what only the whole can
tell (two devices of one name, a device on a lane that is not there) is checked last. Whatever fails becomes a
`Complaint`; a file with complaints is never half used. Relative paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationError, field_validator, model_validator

from edge import config_hq
from edge.config_cloud import Cloud
from edge.config_devices import Place, wrong_devices
from edge.config_lines import line_of
from edge.config_terms import Id, Port, Section


class Store(Section):
    """Who this store is. `timezone` is where its business day begins and its prices change."""

    id: Id
    name: str = ""
    timezone: str = "UTC"
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("not a time zone; write one such as 'Europe/Berlin' or 'UTC'")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Bus(Section):
    """The store's own broker. Edge and bridge reach it on a unix socket in the state folder, tills on `host`:`port`.

    `port` is mutual TLS: a till is the lane that its certificate of the store's authority names; 0 for none.
    `plain_port` is on 127.0.0.1 only and asks for no proof: whoever is on this machine may be any lane.
    """

    host: str = "0.0.0.0"  # every address of the store's network: strangers end at the handshake
    port: int = Field(default=8883, ge=0, le=65535)
    plain_port: Port | None = None
    advertise: bool = Field(default=True, description="tell tills by mDNS where the broker is")
    interfaces: tuple[str, ...] = Field(default=(), description="addresses to advertise on; empty: all")


class Enrolment(Section):
    """Where tills enrol, and renew what has expired, on the bus's `host`; port 0 for nowhere."""

    port: int = Field(default=8884, ge=0, le=65535)


class Limits(Section):
    """What one lane may do, so that one that runs wild does not slow the others."""

    messages_per_s: int = Field(default=200, ge=1)
    burst: int = Field(default=2_000, ge=1, description="messages above the rate that are let through at once")
    message_bytes: int = Field(default=65_536, ge=1_024, le=262_144)
    requests_in_flight: int = Field(default=32, ge=1)


class Lane(Section):
    """One checkout position. Its till is known by a certificate whose common name is `id`."""

    id: Id
    name: str = ""


class Device(Section):
    """One physical device. `transport` (with its `kind`) and `options` are checked against the catalogue of drivers.

    A device without a link of its own, such as a drawer behind a printer, has no `transport`.
    """

    id: Id
    protocol: str
    lanes: tuple[Id, ...] = Field(min_length=1, description="the lanes that use it; the first is its home")
    transport: dict[str, Any] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    failover: Id | None = Field(default=None, description="of a printer: the one of the same model that stands in")
    failover_after_s: float = Field(default=5.0, ge=0, le=3600, description="how long this one must have been unfit")


class VariableMeasure(Section):
    """How a restricted circulation number is cut: GS1 General Specifications 24, section 2.1.11 (prefixes 02, 20-29).

    ``prefix``, then `item_digits` of item, then (with `verifier`) one verifier digit, then `value_digits` of price,
    weight (in `unit`) or count, with `decimals` behind the point, then the EAN-13 check digit. A UPC-A is read with a
    0 before it: its number system 2 is the prefix 02.
    """

    prefix: str = Field(pattern=r"^(02|2[0-9])$")
    item_digits: int = Field(ge=1, le=9)
    value: Literal["price", "weight", "count"]
    unit: Literal["kg", "lb"] = "kg"
    value_digits: int = Field(ge=3, le=6)
    decimals: int = Field(ge=0, le=5)
    verifier: bool = False

    @model_validator(mode="after")
    def _thirteen(self) -> Self:
        digits = 2 + self.item_digits + int(self.verifier) + self.value_digits + 1
        if digits != 13:
            raise ValueError(f"prefix, item, verifier, value and check digit make {digits} digits; must be 13")
        if self.verifier and self.value_digits not in (4, 5):
            raise ValueError("a verifier digit is defined for values of 4 or 5 digits; set value_digits or verifier")
        if self.value == "count" and self.decimals:
            raise ValueError("a count has no decimals; set decimals = 0")
        return self


class Scanning(Section):
    """How codes are read: the country's table of codes that carry a price or a weight, and rows of the store's own.

    The own rows come first. `country` is a row of ``edge/devices/variable_measure.py``.
    """

    country: Literal["de", "fi", "gb", "se"] | None = None
    variable_measure: tuple[VariableMeasure, ...] = ()


class Journal(Section):
    """How long confirmed facts stay, and how much disk is never filled."""

    retention_days: int = Field(default=90, ge=1)
    reserve_mb: int = Field(default=64, ge=1)


class Metrics(Section):
    """Where Prometheus may scrape. Off until a port is named; whoever reaches it may read it."""

    host: str = "127.0.0.1"
    edge_port: Port | None = None
    bridge_port: Port | None = None


class People(Section):
    """What the people of the store must do together. They themselves are kept by the gateway (`tillgate people`)."""

    overrides: tuple[Literal["drawer_without_sale", "takeover"], ...] = Field(
        default=(), description="what a second person must approve of"
    )


class HqSettings(Section):
    """What HQ has set of this configuration (``edge/config_hq.py``); made while the file is read, not written in it."""

    version: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    unfit: str = Field(default="", description="why it is left out although it is there")
    price_key: tuple[str, ...] = Field(default=(), description="as the file has it, whatever HQ has rotated to")


class StoreConfig(Section):
    """All of ``store.toml``. `file` is where it was read from."""

    file: Path
    state_dir: Path = Path("/var/lib/tillgate")
    store: Store
    bus: Bus = Bus()
    enrolment: Enrolment = Enrolment()
    limits: Limits = Limits()
    lanes: tuple[Lane, ...] = Field(min_length=1)
    devices: tuple[Device, ...] = ()
    scanning: Scanning = Scanning()
    cloud: Cloud | None = None
    from_hq: HqSettings = HqSettings()
    journal: Journal = Journal()
    metrics: Metrics = Metrics()
    people: People = People()

    @property
    def store_db(self) -> Path:
        return self.state_dir / "store.db"

    @property
    def bridge_db(self) -> Path:
        return self.state_dir / "bridge.db"

    @property
    def broker_socket(self) -> Path:
        return self.state_dir / "run" / "broker.sock"

    @property
    def access_dir(self) -> Path:
        """What proves who is who: the store's authority and what it has issued."""
        return self.state_dir / "access"

    def lane(self, lane_id: str) -> Lane | None:
        return next((lane for lane in self.lanes if lane.id == lane_id), None)

    def rooted(self) -> Self:
        """The same with every relative path made absolute against the file's folder."""
        return self.model_copy(update=_rooted(self, self.file.parent.resolve()) | {"file": self.file})


def _rooted(section: Section, folder: Path) -> dict[str, Any]:
    """What of `section` names files, or holds tables that do, with `folder` before what is relative."""
    changes: dict[str, Any] = {}
    for key, value in section:
        if isinstance(value, Path):
            changes[key] = folder / value
        elif isinstance(value, Section):
            changes[key] = value.model_copy(update=_rooted(value, folder))
        elif isinstance(value, tuple) and all(isinstance(one, Section) for one in value):
            changes[key] = tuple(one.model_copy(update=_rooted(one, folder)) for one in value)
        elif key == "transport" and isinstance(value, dict) and isinstance(value.get("path"), str):
            changes[key] = value | {"path": str(folder / value["path"])}
    return changes


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing wrong with the file: `key` dotted (``devices[1].protocol``), `line` from 1 or None where not known."""

    file: Path
    line: int | None
    key: str
    what: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.key}: {self.what}" if self.key else f"{where}: {self.what}"


class BadConfig(Exception):
    """The file cannot be used; `complaints` says everything that is wrong, not only the first thing."""

    def __init__(self, complaints: list[Complaint]) -> None:
        super().__init__("\n".join(str(complaint) for complaint in complaints))
        self.complaints = complaints


def load(file: Path) -> StoreConfig:
    """Read and check `file`; BadConfig with every complaint when it cannot be used."""
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise BadConfig([Complaint(file, None, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise BadConfig([Complaint(file, None, "", f"is not UTF-8: {error.reason} at byte {error.start}")]) from None
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([_syntax(file, error)]) from None
    config = _checked(file, text, table)
    return config if config.cloud is None else _with_hqs(config, text, table)


def _checked(file: Path, text: str, table: Mapping[str, Any]) -> StoreConfig:
    try:
        config = StoreConfig.model_validate({**table, "file": file}).rooted()
    except ValidationError as error:
        raise BadConfig([_complaint(file, text, item) for item in error.errors(include_url=False)]) from None
    wrong = [Complaint(file, line_of(text, place), _dotted(place), what) for place, what in _whole(config)]
    if wrong:
        raise BadConfig(wrong)
    return config


def _with_hqs(config: StoreConfig, text: str, table: Mapping[str, Any]) -> StoreConfig:
    """`config` with what HQ has set of it."""
    assert config.cloud is not None
    keys = config_hq.keys_in_force(config.cloud.price_key, config.state_dir)
    found = config_hq.read(config_hq.configuration_file(config.state_dir)) if config.cloud.price_key else None
    own = HqSettings(price_key=config.cloud.price_key)
    if found is not None:
        own = HqSettings(price_key=own.price_key, version=found["version"], settings=found.get("settings") or {})
        try:
            config = _checked(config.file, text, config_hq.laid_over(table, own.settings))
        except (BadConfig, config_hq.NotSettable) as error:
            own = own.model_copy(update={"unfit": str(error), "settings": {}})
    assert config.cloud is not None
    cloud = config.cloud.model_copy(update={"price_key": keys})
    return config.model_copy(update={"cloud": cloud, "from_hq": own})


def with_settings(file: Path, settings: Mapping[str, Any]) -> StoreConfig:
    """`file` as it would be with these settings of HQ's; BadConfig, NotSettable (both say what is wrong)."""
    text = file.read_text(encoding="utf-8")
    return _checked(file, text, config_hq.laid_over(tomllib.loads(text), settings))


_DOTS_PART_TOPICS = ("nats", "rabbitmq")
"""Found with NATS 2.9 and RabbitMQ 3.10 (tests/clouds)."""


def _whole(config: StoreConfig) -> list[tuple[Place, str]]:
    """What is wrong although every key by itself is right."""
    wrong: list[tuple[Place, str]] = []
    lanes = [lane.id for lane in config.lanes]
    for index, lane_id in enumerate(lanes):
        if lane_id in lanes[:index]:
            wrong.append((("lanes", index, "id"), f"there is a lane {lane_id!r} already; every lane has its own id"))
    wrong += wrong_devices(config.devices, lanes)
    if config.cloud and config.cloud.wire == "single" and config.cloud.confirm == "hq":
        wrong.append((("cloud", "wire"), 'single events carry no chain for HQ to confirm; set confirm = "broker" too'))
    if config.cloud and config.cloud.profile in _DOTS_PART_TOPICS:
        broker = f"{config.cloud.profile} parts topics by dots and loses what is sent for it"
        if "." in config.store.id:
            wrong.append((("store", "id"), f"{config.store.id!r} has a dot: {broker}; use '-' or '_' instead"))
        for index, group in enumerate(config.cloud.groups):
            if "." in group:
                wrong.append((("cloud", "groups", index), f"{group!r} has a dot: {broker}; use '-' or '_' instead"))
    if config.metrics.edge_port is not None and config.metrics.edge_port == config.metrics.bridge_port:
        wrong.append((("metrics", "bridge_port"), "edge has this port; each process needs one of its own"))
    if config.bus.port == 0 and config.bus.plain_port is None:
        wrong.append((("bus", "port"), "0 is no listener, and there is no plain_port: tills need one of the two"))
    if config.enrolment.port and config.enrolment.port in (config.bus.port, config.bus.plain_port):
        wrong.append((("enrolment", "port"), "is a port of the bus; each listener needs one of its own"))
    if config.bus.port == config.bus.plain_port:
        wrong.append((("bus", "plain_port"), "is the port of TLS; each listener needs one of its own"))
    return wrong


_HINTS = {
    "missing": "is missing; it must be given",
    "extra_forbidden": "is not a key that is known here; check its spelling",
}


def _complaint(file: Path, text: str, item: Any) -> Complaint:
    place: Place = tuple(item["loc"])
    kind = item["type"]
    what = _HINTS.get(kind) or f"{item['msg'].removeprefix('Value error, ')}; found {item['input']!r}"
    if kind == "extra_forbidden":
        what += _nearest(place)
    return Complaint(file, line_of(text, place), _dotted(place), what)


def _nearest(place: Place) -> str:
    """``; known: a, b, c`` for the table that holds the unknown key."""
    import difflib
    import typing

    model: Any = StoreConfig
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        choices = [annotation, *typing.get_args(annotation)]
        model = next((c for c in choices if isinstance(c, type) and issubclass(c, Section)), None)
        if model is None:
            return ""
    known = [name for name in model.model_fields if name not in ("file", "from_hq")]
    close = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _syntax(file: Path, error: tomllib.TOMLDecodeError) -> Complaint:
    """TOML's own complaint, its line taken out of the text: ``... (at line 3, column 5)``."""
    message = str(error)
    head, _, tail = message.partition(" (at line ")
    digits = tail.split(",")[0]
    return Complaint(file, int(digits) if digits.isdigit() else None, "", f"is not TOML: {head}")


def _dotted(place: Place) -> str:
    out = ""
    for part in place:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out
