"""What is wrong is told in the gateway's status until it is over, and `tillgate status` prints it."""

from __future__ import annotations

from edge.bus.messages.statuses import GatewayStatus
from edge.services.warnings import MAX_SHOWN, Warnings
from edge.status_report import Report


def test_a_warning_is_shown_until_it_is_over_and_said_once() -> None:
    told: list[tuple[str, ...]] = []
    warnings = Warnings()
    warnings.on_change.append(lambda: told.append(tuple(one.code for one in warnings.shown())))
    warnings.set("authority.key", "The key is gone.")
    warnings.set("authority.key", "The key is gone.")
    (first,) = warnings.shown()
    warnings.set("clock", "The clock is wrong.")
    warnings.set("authority.key", "The key is still gone.")
    assert [one.text for one in warnings.shown()] == ["The key is still gone.", "The clock is wrong."]
    assert warnings.shown()[0].since == first.since
    warnings.clear("authority.key")
    warnings.clear("authority.key")
    warnings.clear("never.set")
    both = ("authority.key", "clock")
    assert told == [("authority.key",), both, both, ("clock",)]


def test_many_warnings_do_not_make_a_status_that_no_screen_holds() -> None:
    warnings = Warnings()
    for number in range(2 * MAX_SHOWN):
        warnings.set(f"code{number}", "Something.")
    assert len(warnings.shown()) == MAX_SHOWN
    assert warnings.shown()[0].code == "code0"


def test_tillgate_status_prints_warnings_and_is_not_well() -> None:
    warnings = Warnings()
    well = GatewayStatus(state="serving", link="online", since="2026-11-25T09:30:00.123Z")
    assert Report(well, ()).good
    warnings.set("authority.key", "The store authority's key cannot be opened: put the store's key back.")
    report = Report(well.model_copy(update={"warnings": warnings.shown()}), ())
    assert not report.good
    assert "warning    The store authority's key cannot be opened: put the store's key back." in report.as_text()
