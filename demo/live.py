"""The live view: a picture of the running store in the terminal, redrawn four times a second.

It shows what the bus says, what the virtual devices say, and what the cashiers do; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.receipt import money
from demo.shop import Shop
from demo.shopper import Cashier

STATE_STYLE = {"ready": "green", "busy": "cyan", "not_ready": "yellow", "offline": "red", "faulted": "red"}
KEYS = (
    ("1-6", "choose the lane"),
    ("s", "scan"),
    ("w", "weigh"),
    ("d", "open the drawer with its key"),
    ("p", "paper out / in"),
    ("x", "cut / restore the WAN"),
    ("e", "kill edge"),
    ("b", "kill the bridge"),
    ("q", "quit"),
)
RECEIPT_LINES = 16
DISPLAY_COLUMNS = 20
EVENTS_SHOWN = 6


class View:
    """Everything on the screen. `chosen` is the lane that the keys act on."""

    def __init__(self, shop: Shop, cashiers: Sequence[Cashier], events: Sequence[str]) -> None:
        self._shop = shop
        self._cashiers = cashiers
        self._events = events
        self.chosen = 0
        self.twins: dict[str, dict[str, Any]] = {}

    def __rich__(self) -> RenderableType:
        return Group(
            self._headline(),
            _beside([self._lane(cashier) for cashier in self._cashiers]),
            _beside([self._devices(), self._backlog()]),
            _beside([self._receipt(cashier) for cashier in self._cashiers]),
            Text("\n".join(list(self._events)[-EVENTS_SHOWN:]), style="dim"),
            self._keys(),
        )

    def _headline(self) -> Text:
        gateway, link = self._shop.watch.gateway, self._shop.watch.link
        text = Text()
        text.append(" Tillgate demo store ", style="bold reverse")
        text.append(
            f"   gateway {gateway.get('state', 'unknown')}", style="green" if self._shop.watch.serving else "red"
        )
        text.append(f"   link {link}", style="green" if link == "online" else "red")
        text.append(
            "   WAN " + ("whole" if self._shop.wan.whole else "CUT"), style="" if self._shop.wan.whole else "red"
        )
        text.append(f"   prices {gateway.get('price_version') or 'none'}")
        text.append(f"   safe to switch off: {'yes' if gateway.get('safe_to_switch_off') else 'no'}")
        return text

    def _lane(self, cashier: Cashier) -> Panel:
        lines = Table.grid(expand=True)
        lines.add_column(no_wrap=True, overflow="ellipsis")
        lines.add_column(justify="right")
        for line in cashier.basket[-5:]:
            lines.add_row(f"{line.quantity} {line.text}", money(line.amount_minor))
        lines.add_row("total", money(sum(line.amount_minor for line in cashier.basket)), style="bold")
        scan = cashier.last_scan
        lines.add_row(f"last scan {scan.text} {scan.symbology or ''}" if scan else "no scan yet", "", style="dim")
        lines.add_row(f"{cashier.sales} sales; {cashier.doing or 'next customer'}", "", style="cyan")
        for text in self._customer_reads(cashier):
            lines.add_row(Text(text.ljust(DISPLAY_COLUMNS), style="bold bright_cyan on grey7"), "")
        where = "" if cashier.till.gateway_online else "  gateway away, selling on"
        chosen = self._cashiers[self.chosen] is cashier
        title = f"{'> ' if chosen else ''}{cashier.lane.id} {cashier.lane.name}{where}"
        return Panel(lines, title=title, border_style="bold cyan" if chosen else "red" if where else "green")

    def _customer_reads(self, cashier: Cashier) -> list[str]:
        """What stands on the customer display: of its own, or behind the printer."""
        lane = cashier.lane
        shown = (self.twins.get(lane.display) or self.twins.get(lane.printer) or {}).get("lines")
        return [str(line) for line in shown or ()]

    def _devices(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        for name, device in sorted(self._shop.watch.devices.items()):
            state = str(device.get("state"))
            detail = ", ".join(
                key if value is True else f"{key} {value}" for key, value in device["detail"].items() if value
            )
            table.add_row(name, Text(state, style=STATE_STYLE.get(state, "")), device.get("please") or detail)
        return Panel(table, title="devices")

    def _backlog(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        table.add_row("class", "wait for HQ", "oldest", style="dim")
        for name, entry in self._shop.watch.gateway.get("backlog", {}).items():
            oldest = "" if entry["oldest_s"] is None else f"{entry['oldest_s']} s"
            table.add_row(name, str(entry["facts"]), oldest)
        return Panel(table, title="backlog")

    def _receipt(self, cashier: Cashier) -> Panel:
        printer = self.twins.get(cashier.lane.printer, {})
        paper = str(printer.get("last_receipt") or "").splitlines()[-RECEIPT_LINES:]
        drawer = "drawer OPEN" if printer.get("drawer_open") else "drawer closed"
        title = f"{cashier.lane.printer}: paper {printer.get('paper', 'unknown')}, {drawer}"
        return Panel(Text("\n".join(paper), style="black on white"), title=title)

    def _keys(self) -> Text:
        text = Text()
        for key, meaning in KEYS:
            text.append(f" {key} ", style="reverse")
            text.append(f" {meaning}  ")
        return text


def _beside(panels: Sequence[Panel]) -> Table:
    """Panels side by side, equally wide."""
    grid = Table.grid(expand=True)
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid
