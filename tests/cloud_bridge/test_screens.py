"""The screens in the documentation are what the commands print: the same scene, word for word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert

from cloud_bridge.hq import fleet, fleet_table, schema
from cloud_bridge.hq.record import Recorder
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.statuses import Backlog, DeviceStatus, GatewayStatus
from edge.bus.wording import outage_lines
from edge.status_report import Report
from tests.cloud_bridge.rig import STORE, bodies
from tests.cloud_bridge.test_fleet import NOW, ago, heard_of, say
from tests.cloud_bridge.test_record import Journal

DOCS = Path(__file__).parents[2] / "docs"
EPOCHS = ("0198c5b2-7c1e-7aaa-8bbb-0123456789ab", "0199aaaa-1111-7aaa-8bbb-0123456789ab")

OUTAGES = (
    Outage(
        id="o2", began="2026-05-04T09:02:00.000Z", ended="2026-05-04T09:30:00.000Z", offline_s=1680, cuts=2,
        causes={"wan": 1500, "cloud": 180}, kept={FactClass.TRANSACTION: 512, FactClass.TELEMETRY: 60}, drained_in_s=3,
    ),
    Outage(
        id="o1", began="2026-05-01T19:14:00.000Z", ended="2026-05-02T07:40:00.000Z", offline_s=44_760,
        causes={"lan": 44_760},
        kept={FactClass.TELEMETRY: 1440}, shed={FactClass.TELEMETRY: 120}, drained_in_s=11,
    ),
)  # fmt: skip


def screen(file: str, name: str) -> str:
    """The block behind ``<!-- screen: name -->``, without the command that stands in its first line."""
    text = (DOCS / file).read_text(encoding="utf-8")
    found = re.search(rf"<!-- screen: {name} -->\n```\n\$ [^\n]*\n(.*?)\n```", text, re.DOTALL)
    assert found is not None, f"{file} has no screen {name!r}"
    return found[1]


def scene(hq: Engine) -> None:
    """Four stores: one in order, one whose link is lost, one with a printer in trouble, and one that is two."""
    Recorder(hq).record([Journal(bodies(1, 40), epoch=EPOCHS[0]).cut(1, 40)])
    heard_of(hq, 12)

    def classes(head: int, **more: Any) -> dict[str, Any]:
        return {"transaction": {"head": head, "confirmed": 40, **more}}

    common: dict[str, Any] = {"version": "0.1.0", "clock": "synced", "devices": 9, "price_version": "2026-05-04.1"}
    say(hq, 12, STORE, epoch=EPOCHS[0], online_s=260_000, disk_free_mb=20480, classes=classes(40), **common)
    say(hq, 840, "S0042", epoch="e", online_s=9, classes=classes(512, oldest_s=480), **common)
    say(hq, 31, "S0043", epoch="e", online_s=7000, device_faults={"printer-1": "not_ready"}, lane_gaps=2, **common)
    say(hq, 200_000, "S0044", epoch=EPOCHS[0], **common)
    say(hq, 90_000, "S0044", life="b", epoch=EPOCHS[1], **common)
    say(hq, 20, "S0044", life="c", epoch=EPOCHS[0], online_s=600, **common)
    from cloud_bridge.hq.statuses import Statuses
    from edge.bus import topics

    will = b'{"link":"unknown","life":"a","connection":1}'
    Statuses(hq).take([(topics.up_status("S0042"), will)], ago(838))
    with hq.begin() as db:
        rows = [{"store": STORE, "id": o.id, "ended": o.ended, "body": o.model_dump_json()} for o in OUTAGES]
        db.execute(insert(schema.outages), rows)


def test_the_fleet(hq_file: Engine) -> None:
    scene(hq_file)
    assert fleet_table.table(fleet.look(hq_file, None, NOW), 100) == screen("hq.md", "stores")


def test_one_store(hq_file: Engine) -> None:
    scene(hq_file)
    (view,) = fleet.look(hq_file, STORE, NOW).stores
    assert fleet_table.page(view, 80) == screen("hq.md", "store")


def test_status_and_outages_at_the_store() -> None:
    waiting = {
        FactClass.CRITICAL: Backlog(facts=0, oldest_s=None, head=812, confirmed=812),
        FactClass.TRANSACTION: Backlog(facts=512, oldest_s=1320, head=4711, confirmed=4199, eta_s=610),
        FactClass.OPERATION: Backlog(facts=3, oldest_s=1310, head=95, confirmed=92, eta_s=610),
        FactClass.ENGAGEMENT: Backlog(facts=0, oldest_s=None),
        FactClass.TELEMETRY: Backlog(facts=60, oldest_s=1325, head=9120, confirmed=9060, eta_s=610),
    }
    gateway = GatewayStatus(
        state="serving", link="online", since="2026-05-04T09:30:00.123Z", backlog=waiting, eta_s=610, budget_wait_s=600,
        epoch=EPOCHS[0], clock="synced", version="0.1.0", disk_free_mb=20480, price_version="2026-05-04.1",
        outages=OUTAGES,
    )  # fmt: skip
    printer = DeviceStatus(
        device="printer-1", category="printer", state="not_ready", please="Put paper into printer-1 and close its cover"
    )
    scale = DeviceStatus(device="scale-1", category="scale", state="ready")
    assert Report(gateway, (printer, scale)).as_text() == screen("link.md", "status")
    assert "\n".join(["outages, the newest first", *outage_lines(OUTAGES)]) == screen("link.md", "outages")
