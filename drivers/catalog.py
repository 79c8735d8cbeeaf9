"""Every kind of device and transport, by name: an explicit table. Nothing registers itself by being imported.

A configuration names a kind and a transport; the entry says which options each takes (a frozen dataclass),
which transports make sense, and how the line is set unless the configuration says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from drivers.displays import printer_display
from drivers.displays.base import Display
from drivers.displays.cd5220 import Cd5220Display, Cd5220DisplayOptions
from drivers.displays.display_driver import DisplayDriver
from drivers.displays.escpos_display import EscposDisplay, EscposDisplayOptions
from drivers.displays.printer_display import PrinterDisplayOptions, command_set
from drivers.drawers import pulse
from drivers.drawers.pulse import PrinterDrawer, PrinterDrawerOptions
from drivers.drawers.serial_drawer import SerialDrawer, SerialDrawerDriver, SerialDrawerOptions
from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import BadOption
from drivers.hid_drivers import HidScaleDriver, HidScannerDriver
from drivers.options import read_options
from drivers.printers.escpos_status import EscposStatus
from drivers.printers.printer_driver import PrinterDriver
from drivers.printers.profiles import PROFILES
from drivers.printers.zpl_driver import ZplDriver
from drivers.printers.zpl_status import ZplStatus
from drivers.protocol import DeviceProtocol
from drivers.scales.adam_azextra import AdamAzextra, AdamAzextraOptions
from drivers.scales.adam_cpwplus import AdamCpwplus, AdamCpwplusOptions
from drivers.scales.base import ScaleProtocol
from drivers.scales.cas_10 import Cas10, Cas10Options
from drivers.scales.cas_22 import Cas22, Cas22Options
from drivers.scales.dialog_02 import Dialog02, Dialog02Options
from drivers.scales.dialog_06 import Dialog06, Dialog06Options
from drivers.scales.dibal import Dibal, DibalOptions
from drivers.scales.digi_ds_425 import DigiDs425, DigiDs425Options
from drivers.scales.dini_argeo import DiniArgeo, DiniArgeoOptions
from drivers.scales.icl import Icl, IclOptions
from drivers.scales.kern import Kern, KernOptions
from drivers.scales.mt_sics import MtSics, MtSicsOptions
from drivers.scales.nci_scp_01 import NciScp01, NciScp01Options
from drivers.scales.samsung_ecr import SamsungEcr, SamsungEcrOptions
from drivers.scales.scale_driver import ScaleDriver
from drivers.scales.sma_scp_0499 import SmaScp0499, SmaScp0499Options
from drivers.scales.toledo_8213 import Toledo8213, Toledo8213Options
from drivers.scales.toledo_8217 import Toledo8217, Toledo8217Options
from drivers.scales.usb_hid_scale import UsbHidScale, UsbHidScaleOptions
from drivers.scanners.hid_pos import HidPosScanner, HidPosScannerOptions
from drivers.scanners.keyboard import KeyboardScanner, KeyboardScannerOptions
from drivers.scanners.magellan import Magellan, MagellanOptions, MagellanScaleOptions
from drivers.scanners.magellan_driver import MagellanDriver
from drivers.scanners.serial_scanner import SerialScanner, SerialScannerOptions
from drivers.transports.base import Transport
from drivers.transports.evdev import EvdevOptions, EvdevTransport
from drivers.transports.event_socket import EventSocketOptions, EventSocketTransport
from drivers.transports.hidraw import HidrawOptions, HidrawTransport
from drivers.transports.report_socket import ReportSocketOptions, ReportSocketTransport
from drivers.transports.serial import SerialOptions, SerialTransport
from drivers.transports.tcp import TcpOptions, TcpTransport
from drivers.transports.usb import UsbOptions, UsbTransport
from drivers.transports.usblp import UsblpOptions, UsblpTransport

Category = Literal["scanner", "printer", "scale", "drawer", "display"]
Build = Callable[[Any, Transport, OnEvent, OnOpen | None], Driver]


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """One kind of device. `line` are defaults for the options of its transport, by transport name.

    A kind without a link of its own (a drawer behind a printer) has no transports and no `build`; `through` is the
    category of the device that carries it, and the option of that name (``printer = "printer-1"``) is its id.
    `carriers` are the kinds that can; empty: every kind of that category. `clash` says what keeps two of this kind, by
    their options, from sharing one carrier: the option at fault and why, or None.
    """

    category: Category
    options: type
    transports: tuple[str, ...]
    build: Build | None
    line: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    through: Category | None = None
    carriers: tuple[str, ...] = ()
    clash: Callable[[Any, Any], tuple[str, str] | None] | None = None


@dataclass(frozen=True, slots=True)
class TransportKind:
    """One kind of transport."""

    options: type
    build: Callable[[Any], Transport]


@dataclass(frozen=True, slots=True)
class EscposOptions:
    """`model` is a row of the profile table (`drivers/printers/profiles.py`)."""

    model: str = "generic-80"

    def __post_init__(self) -> None:
        """Refuse models that have no row."""
        if self.model not in PROFILES:
            raise ValueError(f"model: is {self.model!r}; expected one of {', '.join(PROFILES)}")


@dataclass(frozen=True, slots=True)
class ZplOptions:
    """A label printer has none: its jobs come ready-made."""


def _scanner(
    protocol: Callable[[Any], DeviceProtocol],
    options: type,
    *,
    serial: Mapping[str, Any] | None = None,
    transports: tuple[str, ...] = ("serial", "tcp"),
) -> DeviceKind:
    """A scanner that only talks; `serial` is how its line is set unless the configuration says otherwise."""

    def build(chosen: Any, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
        return Driver(transport, protocol(chosen), event, opened)

    return DeviceKind("scanner", options, transports, build, {"serial": serial or {}})


def _hid_pos(options: HidPosScannerOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return HidScannerDriver(transport, HidPosScanner(options), event, opened)


def _magellan(options: MagellanOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return MagellanDriver(transport, Magellan(options), event, opened)


def _hid_scale(options: UsbHidScaleOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return HidScaleDriver(transport, UsbHidScale(options), event, opened)


def _escpos(options: EscposOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return PrinterDriver(transport, EscposStatus(), event, opened, profile=PROFILES[options.model])


def _zpl(options: ZplOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return ZplDriver(transport, ZplStatus(), event, opened)


def _scale(
    protocol: Callable[[Any], ScaleProtocol],
    options: type,
    *,
    serial: Mapping[str, Any] | None = None,
    transports: tuple[str, ...] = ("serial", "tcp"),
) -> DeviceKind:
    """A scale; `serial` is how its line is set unless the configuration says otherwise."""

    def build(chosen: Any, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
        return ScaleDriver(transport, protocol(chosen), event, opened)

    return DeviceKind("scale", options, transports, build, {"serial": serial or {}})


def _serial_drawer(options: SerialDrawerOptions, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
    return SerialDrawerDriver(transport, options, event, opened)


def _display(display: Callable[[Any], Display], options: type) -> DeviceKind:
    """A customer display on a line of its own."""

    def build(chosen: Any, transport: Transport, event: OnEvent, opened: OnOpen | None) -> Driver:
        baud = transport.options.baud if isinstance(transport, SerialTransport) else None
        seconds_per_byte = 10 / baud if baud else 0.0  # a start bit, eight data bits, a stop bit
        return DisplayDriver(transport, display(chosen), event, opened, seconds_per_byte=seconds_per_byte)

    return DeviceKind("display", options, ("serial", "tcp"), build)


_7E1 = {"data_bits": 7, "parity": "even"}
_7O1 = {"data_bits": 7, "parity": "odd"}
_ESCPOS = ("escpos-printer",)
_REPORTS = ("hidraw", "report-socket")

TRANSPORTS: Mapping[str, TransportKind] = {
    "serial": TransportKind(SerialOptions, SerialTransport),
    "tcp": TransportKind(TcpOptions, TcpTransport),
    "evdev": TransportKind(EvdevOptions, EvdevTransport),
    "event-socket": TransportKind(EventSocketOptions, EventSocketTransport),
    "usb": TransportKind(UsbOptions, UsbTransport),
    "usblp": TransportKind(UsblpOptions, UsblpTransport),
    "hidraw": TransportKind(HidrawOptions, HidrawTransport),
    "report-socket": TransportKind(ReportSocketOptions, ReportSocketTransport),
}

DEVICES: Mapping[str, DeviceKind] = {
    "serial-scanner": _scanner(SerialScanner, SerialScannerOptions),
    "keyboard-scanner": _scanner(KeyboardScanner, KeyboardScannerOptions, transports=("evdev", "event-socket")),
    "escpos-printer": DeviceKind("printer", EscposOptions, ("tcp", "usb", "usblp", "serial"), _escpos),
    "zpl-printer": DeviceKind("printer", ZplOptions, ("tcp", "usb", "usblp", "serial"), _zpl),
    "hid-pos-scanner": DeviceKind("scanner", HidPosScannerOptions, _REPORTS, _hid_pos),
    "magellan": DeviceKind("scanner", MagellanOptions, ("serial", "tcp"), _magellan, {"serial": _7O1}),
    "toledo-8217": _scale(Toledo8217, Toledo8217Options, serial=_7E1),
    "toledo-8213": _scale(Toledo8213, Toledo8213Options, serial=_7E1),
    "nci-scp-01": _scale(NciScp01, NciScp01Options, serial=_7E1),
    "sma-scp-0499": _scale(SmaScp0499, SmaScp0499Options),
    "mt-sics": _scale(MtSics, MtSicsOptions),
    "adam-azextra": _scale(AdamAzextra, AdamAzextraOptions, serial={"baud": 4800}),
    "adam-cpwplus": _scale(AdamCpwplus, AdamCpwplusOptions),
    "digi-ds-425": _scale(DigiDs425, DigiDs425Options),
    "kern": _scale(Kern, KernOptions),
    "dini-argeo": _scale(DiniArgeo, DiniArgeoOptions),
    "samsung-ecr": _scale(SamsungEcr, SamsungEcrOptions),
    "icl": _scale(Icl, IclOptions, serial=_7E1),
    "cas-22": _scale(Cas22, Cas22Options),
    "cas-10": _scale(Cas10, Cas10Options),
    "dialog-02": _scale(Dialog02, Dialog02Options, serial={"baud": 2400, **_7O1}),
    "dialog-04": _scale(Dialog02, Dialog02Options, serial={"baud": 4800, **_7O1}),
    "dialog-06": _scale(Dialog06, Dialog06Options, serial=_7O1),
    "dibal": _scale(Dibal, DibalOptions),
    "usb-hid-scale": DeviceKind("scale", UsbHidScaleOptions, _REPORTS, _hid_scale),
    "magellan-scale": DeviceKind("scale", MagellanScaleOptions, (), None, through="scanner", carriers=("magellan",)),
    "printer-drawer": DeviceKind("drawer", PrinterDrawerOptions, (), None, {}, "printer", _ESCPOS, pulse.clash),
    "serial-drawer": DeviceKind("drawer", SerialDrawerOptions, ("serial", "tcp"), _serial_drawer),
    "escpos-display": _display(EscposDisplay, EscposDisplayOptions),
    "cd5220-display": _display(Cd5220Display, Cd5220DisplayOptions),
    "printer-display": DeviceKind(
        "display", PrinterDisplayOptions, (), None, {}, "printer", _ESCPOS, printer_display.clash
    ),
}


def read_device(kind: str, options: Mapping[str, Any]) -> Any:
    """Check the options of a device; returns its options dataclass, raises BadOption."""
    return read_options(_device(kind).options, options)


def read_transport(device: str, kind: str, options: Mapping[str, Any]) -> Any:
    """Check the options of a device's transport, with the line settings of that device filled in."""
    entry = _device(device)
    if kind not in entry.transports:
        choices = ", ".join(entry.transports) or "none: it is reached through another device"
        raise BadOption("transport", f"is {kind!r}; a {device} takes {choices}")
    return read_options(TRANSPORTS[kind].options, {**entry.line.get(kind, {}), **options})


def carriers(kind: str) -> tuple[str, ...]:
    """The kinds of device that can carry one of this kind; empty where it has a link of its own."""
    through = _device(kind).through
    if through is None:
        return ()
    return _device(kind).carriers or tuple(name for name, other in DEVICES.items() if other.category == through)


def build_drawer(options: PrinterDrawerOptions | SerialDrawerOptions) -> PrinterDrawer | SerialDrawer:
    """Build a drawer; `kick` of its printer's driver opens it, or of its own (`SerialDrawerDriver`)."""
    return SerialDrawer(options) if isinstance(options, SerialDrawerOptions) else PrinterDrawer(options)


def build_display(options: PrinterDisplayOptions) -> Display:
    """Build a display behind a printer; `PrinterDriver.pass_through` of the printer it names carries its pictures."""
    return command_set(options)


def build_transport(options: Any) -> Transport:
    """Build a transport from what `read_transport` returned. Opens nothing."""
    for entry in TRANSPORTS.values():
        if type(options) is entry.options:
            return entry.build(options)
    raise BadOption("transport", f"has options of type {type(options).__name__}, which no transport takes")


def build_driver(
    kind: str, options: Any, transport: Transport, on_event: OnEvent, on_open: OnOpen | None = None
) -> Driver:
    """Build the driver of a device from what `read_device` returned. Opens nothing; `run` does."""
    build = _device(kind).build
    if build is None:
        raise BadOption("kind", f"{kind} has no driver of its own: it is reached through another device")
    return build(options, transport, on_event, on_open)


def _device(kind: str) -> DeviceKind:
    entry = DEVICES.get(kind)
    if entry is None:
        raise BadOption("kind", f"is {kind!r}; expected one of {', '.join(DEVICES)}")
    return entry
