"""The contract: golden samples of every message, the published document, topics and envelope."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from edge.bus import asyncapi, envelope, frame, topics
from edge.bus.messages import (
    authority,
    commands,
    configuration,
    facts,
    links,
    notices,
    prices,
    renewal,
    replies,
    requests,
    scans,
    signed,
    spoken,
    statuses,
)

GOLDEN = Path(__file__).parent / "golden"
MESSAGES: dict[str, type[BaseModel]] = {
    **{row.name: row.data for row in facts.FACTS.values()},
    **{f"request.{name}": row.parameters for name, row in requests.OPERATIONS.items()},
    "request": requests.Request,
    "reply": replies.Reply,
    "scan": scans.ScanMessage,
    "scan.rejected": scans.ScanRejected,
    "weight": scans.WeightMessage,
    "weight.live": scans.LiveWeight,
    "gateway.status": statuses.GatewayStatus,
    "gateway.status.warnings": statuses.GatewayStatus,
    "gateway.status.certificates": statuses.GatewayStatus,
    "device.status": statuses.DeviceStatus,
    "presence": statuses.Presence,
    "price.manifest": prices.PriceManifest,
    "price.signed": prices.SignedManifest,
    "price.item": prices.PriceItem,
    "price.notice": prices.PriceNotice,
    "hq.signed": signed.Signed,
    "hq.command": commands.Command,
    "hq.notice": notices.Notice,
    "store.notices": notices.StoreNotices,
    "store.authority": authority.StoreAuthority,
    "result.certificate.renew": authority.RenewedCertificate,
    **{f"command.{name}": row.parameters for name, row in commands.COMMANDS.items()},
    "bridge.status": links.BridgeStatus,
    "bridge.status.certificates": links.BridgeStatus,
    "hq.configuration": configuration.Configuration,
    "hq.keys": configuration.HqKeys,
    "hq.certificate.request": renewal.CertificateRequest,
    "hq.certificate.answer": renewal.CertificateAnswer,
    "hq.said": spoken.Said,
    "hq.spoken": spoken.Spoken,
    "hq.confirm-keys": spoken.ConfirmKeys,
    "bridge.committed": links.Committed,
    "journal.heads": links.JournalHeads,
    "hq.confirmed": links.Confirmed,
    "hq.need": links.Need,
    "hq.need.groups": links.Need,
    "hq.offer": links.Offer,
    "price.manifest.group": prices.PriceManifest,
    "hq.status": links.StoreStatus,
    "bridge.outage.recorded": links.OutageRecorded,
}


def sample(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_sample_is_still_read(name: str) -> None:
    """A sample, once there, is never changed: old messages stay readable."""
    text = json.dumps(sample(name))
    read = MESSAGES[name].model_validate_json(text)
    assert json.loads(read.model_dump_json(exclude_unset=True)) == sample(name)


def test_no_sample_without_a_message() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(MESSAGES)


def test_the_published_document_has_not_drifted() -> None:
    assert asyncapi.main(["--check"]) == 0


@pytest.mark.parametrize("channel", asyncapi.document()["channels"])
def test_published_schemas_are_valid_and_take_the_samples(channel: str) -> None:
    document = asyncapi.document()
    message = next(iter(document["channels"][channel]["messages"].values()))
    schema = {**message["payload"], "components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    if channel.startswith("request_"):
        keys = {f"request_{name.replace('.', '_')}": name for name in requests.OPERATIONS}
        operation = keys[channel]
        found = {"id": "r-1", "parameters": sample(f"request.{operation}")}
        assert not validator.is_valid({"id": "r-1", "parameters": {"no_such_key": 1}})
    elif channel == "facts":
        data = sample("tillgate.sale.completed.v1")
        found = envelope.build("tillgate.sale.completed.v1", "/stores/S1/lanes/1", data, sequence=1)
        data["lines"][0]["quantity"] = "-1"
        assert not validator.is_valid(found)
        found["data"] = sample("tillgate.sale.completed.v1")
    else:
        names = {
            "replies": "reply",
            "scans": "scan",
            "scansRejected": "scan.rejected",
            "weights": "weight.live",
            "presence": "presence",
            "gatewayStatus": "gateway.status",
            "deviceStatus": "device.status",
            "storePrices": "price.notice",
            "storeNotices": "store.notices",
            "storeAuthority": "store.authority",
        }
        found = sample(names[channel])
    validator.validate(found)


def fact(**changes: Any) -> envelope.Event:
    event = envelope.build(
        "tillgate.sale.completed.v1", "/stores/S1/lanes/1", sample("tillgate.sale.completed.v1"), sequence=7
    )
    return {**event, **changes}


def test_a_good_fact_is_taken() -> None:
    row, sequence = facts.check(fact(), "/stores/S1/lanes/1")
    assert (row.fact_class, sequence) == (facts.FactClass.TRANSACTION, 7)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"source": "/stores/S1/lanes/2"}, "source: must be '/stores/S1/lanes/1'"),
        ({"type": "tillgate.drawer.opened.v1"}, "is not a fact a till sends"),
        ({"type": "tillgate.sale.completed.v9"}, "is not a fact a till sends"),
        ({"sequence": "7"}, "sequence: "),
        ({"sequence": "0000000000"}, "a lane counts from"),
        ({"id": ""}, "id: "),
        ({"specversion": "0.3"}, "specversion: "),
        ({"data": []}, "data: "),
        ({"data": {}}, "data.business_day_date: "),
    ],
)
def test_a_bad_fact_is_refused_with_its_place(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(facts.BadFact, match=re.escape(complaint)):
        facts.check(fact(**changes), "/stores/S1/lanes/1")


@pytest.mark.parametrize("quantity", ["-1", "0", "0.000", "1e3", "", "1,5", 1, 1.5, None])
def test_quantities_are_positive_decimal_strings(quantity: Any) -> None:
    data = sample("tillgate.sale.completed.v1")
    data["lines"][0]["quantity"] = quantity
    with pytest.raises(facts.BadFact) as caught:
        facts.check(fact(data=data), "/stores/S1/lanes/1")
    assert "data.lines.0.quantity" in str(caught.value)


def test_keys_of_a_newer_till_are_let_through() -> None:
    data = {**sample("tillgate.sale.completed.v1"), "loyalty_points": 12}
    facts.check(fact(data=data, traceparent="00-abc"), "/stores/S1/lanes/1")


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"a": NaN}'])
def test_what_is_no_json_object_is_no_event(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not "):
        envelope.parse(payload)


def test_ids_sort_by_time_and_are_uuid_version_7() -> None:
    import uuid

    made = [envelope.new_id() for _ in range(100)]
    assert {uuid.UUID(one).version for one in made} == {7}
    assert {uuid.UUID(one).variant for one in made} == {uuid.RFC_4122}
    assert [one[:8] for one in made] == sorted(one[:8] for one in made)


@pytest.mark.parametrize("part", ["", "a/b", "+", "#", "a b", "-a", "x" * 65, "\u00e4"])
def test_ids_that_would_reach_other_topics_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a topic"):
        topics.lane_scans(part)


def test_topics_say_whose_they_are() -> None:
    assert topics.lane_of(topics.lane_facts("4")) == "4"
    assert topics.operation_of(topics.lane_request("4", "drawer.open")) == "drawer.open"
    assert topics.store_of(topics.up("S1", "critical")) == "S1"
    assert topics.takes_replies(topics.lane_replies("4"), "4")
    assert not topics.takes_replies(topics.lane_replies("44"), "4")
    with pytest.raises(ValueError, match="not a lane's topic"):
        topics.lane_of(topics.GATEWAY_STATUS)


def test_frames_carry_header_and_body() -> None:
    header = {"epoch": "e", "first": 1}
    assert frame.unpack(frame.pack(header, b"\n\x00body")) == (header, b"\n\x00body")
    for bad in (b"", b"TG1 ", b"TG1 {]\n", b"TG1 []\nx", b"XX1 {}\n", b"TG1 " + b" " * 5000 + b"\n"):
        with pytest.raises(frame.BadFrame):
            frame.unpack(bad)


def test_every_problem_code_and_operation_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "till.md").read_text(encoding="utf-8")
    table = text[text.index("## Problems") :]
    documented = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert documented == {code.value for code in replies.Code}
    for name in requests.OPERATIONS:
        assert f"`{name}`" in text or name == "help"
    for row in facts.FACTS.values():
        assert (f"`{row.name}`" in text) == row.from_till
