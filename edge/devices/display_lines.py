"""What a customer reads: an item, a total. Pure: numbers in, lines for `drivers.displays.base.Display.picture` out.

    Semi-skimmed milk 1     the text, cut at the end of the line
    2 x 0.99        1.98    what is left out where there is no room: first the price of one, then the quantity

No number is ever cut: part of a number is another number.
"""

from __future__ import annotations

from drivers.displays.base import DisplayOptions, Line
from edge.bus.messages.requests import DisplayShow
from edge.money import amount_text


def lines_of(parameters: DisplayShow, options: DisplayOptions, currency: str) -> list[Line]:
    """The lines that a till asked for."""
    if parameters.lines is not None:
        return list(parameters.lines)
    if parameters.template == "item":
        return _item(parameters, options, currency)
    if parameters.template == "total":
        return _total(parameters, options, currency)
    return list(options.idle)


def _item(parameters: DisplayShow, options: DisplayOptions, currency: str) -> list[Line]:
    amount = amount_text(parameters.amount_minor or 0, currency, options.decimal_point)
    room = options.columns - len(amount) - 1
    choices = [""]
    if parameters.quantity is not None:
        quantity = parameters.quantity.replace(".", options.decimal_point)
        if parameters.unit:
            quantity += f" {parameters.unit}"
        choices.insert(0, quantity)
        if parameters.unit_price_minor is not None:
            price = amount_text(parameters.unit_price_minor, currency, options.decimal_point)
            choices.insert(0, f"{quantity} x {price}")
    left = next((text for text in choices if len(text) <= room), "")
    return [parameters.text or "", (left, amount)]


def _total(parameters: DisplayShow, options: DisplayOptions, currency: str) -> list[Line]:
    total = amount_text(parameters.total_minor or 0, currency, options.decimal_point)
    lines: list[Line] = [(parameters.text or "Total", total)]
    if parameters.change_minor is not None:
        change = amount_text(parameters.change_minor, currency, options.decimal_point)
        lines.append((parameters.change_text, change))
    return lines
