"""Every virtual device, by the name of the kind that it is the other end of (`drivers.catalog`): an explicit table.

The options of a twin are the keyword arguments of its class, given as text: ``unit=lb``, ``proof=no``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers.virtual.displays.display import VirtualCd5220Display, VirtualEscposDisplay
from drivers.virtual.hid_scanner import VirtualHidScanner
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.magellan import VirtualMagellan
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.scales.adam_azextra import VirtualAdamAzextra
from drivers.virtual.scales.adam_cpwplus import VirtualAdamCpwplus
from drivers.virtual.scales.cas import VirtualCas10, VirtualCas22
from drivers.virtual.scales.dialog_02 import VirtualDialog02
from drivers.virtual.scales.dialog_06 import VirtualDialog06
from drivers.virtual.scales.dibal import VirtualDibal
from drivers.virtual.scales.digi_ds_425 import VirtualDigiDs425
from drivers.virtual.scales.dini_argeo import VirtualDiniArgeo
from drivers.virtual.scales.icl import VirtualIcl
from drivers.virtual.scales.kern import VirtualKern
from drivers.virtual.scales.mt_sics import VirtualMtSics
from drivers.virtual.scales.nci_scp_01 import VirtualNciScp01
from drivers.virtual.scales.samsung_ecr import VirtualSamsungEcr
from drivers.virtual.scales.sma_scp_0499 import VirtualSmaScp0499
from drivers.virtual.scales.toledo_8213 import VirtualToledo8213
from drivers.virtual.scales.toledo_8217 import VirtualToledo8217
from drivers.virtual.scales.usb_hid_scale import VirtualUsbHidScale
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.serial_drawer import VirtualSerialDrawer
from drivers.virtual.twin import Twin
from drivers.virtual.wire import PtyWire, TcpWire, UnixWire, Wire
from drivers.virtual.zpl_printer import VirtualZplPrinter


@dataclass(frozen=True, slots=True)
class TwinKind:
    """One virtual device. `events`, `reports`: its wire is a unix socket that carries key events or HID reports, not a
    pty or a TCP port.

    `paper`: it keeps what it prints in a folder of its own.
    """

    twin: Callable[..., Twin]
    events: bool = False
    reports: bool = False
    paper: bool = False


TWINS: Mapping[str, TwinKind] = {
    "serial-scanner": TwinKind(VirtualScanner),
    "keyboard-scanner": TwinKind(VirtualKeyboard, events=True),
    "magellan": TwinKind(VirtualMagellan),
    "hid-pos-scanner": TwinKind(VirtualHidScanner, reports=True),
    "escpos-printer": TwinKind(VirtualPrinter, paper=True),
    "zpl-printer": TwinKind(VirtualZplPrinter, paper=True),
    "toledo-8217": TwinKind(VirtualToledo8217),
    "toledo-8213": TwinKind(VirtualToledo8213),
    "nci-scp-01": TwinKind(VirtualNciScp01),
    "sma-scp-0499": TwinKind(VirtualSmaScp0499),
    "mt-sics": TwinKind(VirtualMtSics),
    "adam-azextra": TwinKind(VirtualAdamAzextra),
    "adam-cpwplus": TwinKind(VirtualAdamCpwplus),
    "digi-ds-425": TwinKind(VirtualDigiDs425),
    "kern": TwinKind(VirtualKern),
    "dini-argeo": TwinKind(VirtualDiniArgeo),
    "samsung-ecr": TwinKind(VirtualSamsungEcr),
    "icl": TwinKind(VirtualIcl),
    "cas-22": TwinKind(VirtualCas22),
    "cas-10": TwinKind(VirtualCas10),
    "dialog-02": TwinKind(VirtualDialog02),
    "dialog-04": TwinKind(VirtualDialog02),
    "dialog-06": TwinKind(VirtualDialog06),
    "dibal": TwinKind(VirtualDibal),
    "serial-drawer": TwinKind(VirtualSerialDrawer),
    "escpos-display": TwinKind(VirtualEscposDisplay),
    "cd5220-display": TwinKind(VirtualCd5220Display),
    "usb-hid-scale": TwinKind(VirtualUsbHidScale, reports=True),
}


def build(spec: str, directory: Path, *, pictures: bool = False) -> Twin:
    """Build the twin of ``KIND:NAME[:tcp:PORT][:key=value...]``; raises ValueError saying what would be right.

    In `directory`: its pty is linked at ttyNAME, its socket is NAME.events or NAME.reports, its paper is in NAME.
    """
    kind, _, rest = spec.partition(":")
    name, *parts = rest.split(":")
    entry = TWINS.get(kind)
    if entry is None or not name:
        raise ValueError(f"{spec!r}: expected KIND:NAME with a kind of {', '.join(TWINS)}")
    port: int | None = None
    if parts[:1] == ["tcp"]:
        if entry.events or entry.reports:
            raise ValueError(f"{spec!r}: no tcp")
        if len(parts) < 2 or not parts[1].isdigit():
            raise ValueError(f"{spec!r}: expected {kind}:{name}:tcp:PORT")
        port = int(parts[1])
        parts = parts[2:]
    options = dict(part.partition("=")[::2] for part in parts)
    try:
        chosen = _chosen(kind, options)
        return build_at(kind, name, _wire(entry, name, port, directory), directory, chosen, pictures=pictures)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{spec!r}: {error.args[0]}") from error


def build_at(
    kind: str, name: str, wire: Wire, directory: Path, options: Mapping[str, object], *, pictures: bool = False
) -> Twin:
    """Build the twin of `kind` on `wire`; paper goes to `directory`/`name`. Raises ValueError for a wrong option."""
    entry = TWINS[kind]
    if entry.paper:
        return entry.twin(name, wire, directory / name, pictures=pictures, **options)
    return entry.twin(name, wire, **options)


def options_of(kind: str) -> dict[str, object]:
    """The options that the twin of `kind` takes, with their defaults."""
    parameters = inspect.signature(TWINS[kind].twin).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY and one.name != "pictures"}


def _chosen(kind: str, texts: dict[str, str]) -> dict[str, object]:
    """The options as the twin wants them: a default tells whether it is a text, a whole number, or yes and no."""
    known = options_of(kind)
    chosen: dict[str, object] = {}
    for key, text in texts.items():
        if key not in known:
            raise ValueError(f"{key} is unknown; a {kind} takes {', '.join(known) or 'no options'}")
        default = known[key]
        if isinstance(default, bool):
            chosen[key] = text not in ("no", "false")
        else:
            chosen[key] = int(text) if isinstance(default, int) else text
    return chosen


def _wire(entry: TwinKind, name: str, port: int | None, directory: Path) -> Wire:
    if entry.events:
        return UnixWire(directory / f"{name}.events")
    if entry.reports:
        return ReportWire(directory / f"{name}.reports")
    return PtyWire(directory / f"tty{name}") if port is None else TcpWire(port)
