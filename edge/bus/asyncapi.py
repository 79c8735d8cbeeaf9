"""The contract with tills as an AsyncAPI 3 document, made from `topics` and `messages`: docs/asyncapi.json.

``python -m edge.bus.asyncapi --write`` makes it; ``--check`` tells whether it still says what the code does.

Source: AsyncAPI 3.0.0 specification.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edge import __version__
from edge.bus import topics
from edge.bus.messages import authority, facts, notices, prices, replies, requests, scans, statuses

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.json"

_DIRECTION = Literal["send", "receive"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic as a till sees it: the till `send`s to it or `receive`s from it."""

    key: str
    address: str
    summary: str
    action: _DIRECTION
    qos: int
    retain: bool
    messages: tuple[type[BaseModel], ...]


def _channels() -> list[Channel]:
    lane, device = "LANE", "DEVICE"
    fixed = [
        Channel(
            "facts",
            topics.lane_facts(lane),
            "Facts, answered by accepted or a problem",
            "send",
            1,
            False,
            (facts.FactEnvelope,),
        ),
        Channel("replies", topics.lane_replies(lane), "Answers", "receive", 1, False, (replies.Reply,)),
        Channel("scans", topics.lane_scans(lane), "Scans, fresh only", "receive", 1, False, (scans.ScanMessage,)),
        Channel(
            "scansRejected",
            topics.lane_rejected(lane),
            "Codes that are not delivered, and why",
            "receive",
            1,
            False,
            (scans.ScanRejected,),
        ),
        Channel("weights", topics.lane_weights(lane), "Live weights", "receive", 0, False, (scans.LiveWeight,)),
        Channel("presence", topics.lane_presence(lane), "The till's presence", "send", 1, True, (statuses.Presence,)),
        Channel("gatewayStatus", topics.GATEWAY_STATUS, "The gateway", "receive", 1, True, (statuses.GatewayStatus,)),
        Channel("deviceStatus", topics.device_status(device), "A device", "receive", 1, True, (statuses.DeviceStatus,)),
        Channel(
            "storePrices",
            topics.store_subject("prices"),
            "The price version in force",
            "receive",
            1,
            True,
            (prices.PriceNotice,),
        ),
        Channel(
            "storeNotices",
            topics.store_subject("notices"),
            "HQ's notices that hold now",
            "receive",
            1,
            True,
            (notices.StoreNotices,),
        ),
        Channel(
            "storeAuthority",
            topics.store_subject("authority"),
            "Who signs certificates in this store",
            "receive",
            1,
            True,
            (authority.StoreAuthority,),
        ),
    ]
    asked = [
        Channel(
            "request_" + name.replace(".", "_"),
            topics.lane_request(lane, name),
            row.summary,
            "send",
            1,
            False,
            (requests.Request, row.parameters),
        )
        for name, row in requests.OPERATIONS.items()
    ]
    return fixed + asked


_PARAMETERS = {
    "LANE": ("lane", "The till's own lane id"),
    "DEVICE": ("device", "A device id"),
}


def document() -> dict[str, Any]:
    """The whole document as a dictionary."""
    channels = _channels()
    fact_models = [row.data for row in facts.FACTS.values()]
    models: list[type[BaseModel]] = list(
        dict.fromkeys([*(model for channel in channels for model in channel.messages), *fact_models])
    )
    _, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = schema["$defs"]
    _drop_discriminators(schemas)
    _fit_facts(schemas)
    operations = [row for row in channels if row.key.startswith("request_")]
    for row in operations:
        schemas[_request_name(row)] = {
            "title": _request_name(row),
            "allOf": [
                {"$ref": "#/components/schemas/Request"},
                {"properties": {"parameters": {"$ref": f"#/components/schemas/{row.messages[1].__name__}"}}},
            ],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tillgate: the local bus of a store",
            "version": __version__,
            "description": "What a till sends to and receives from the gateway over the store's MQTT broker.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "store": {
                "host": "{gateway}",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "description": "Found by mDNS; MQTT 3.1.1 works as well",
                "variables": {"gateway": {"description": "address and port of the gateway"}},
            }
        },
        "channels": {channel.key: _channel(channel) for channel in channels},
        "operations": {_operation_name(channel): _operation(channel) for channel in channels},
        "components": {"schemas": schemas},
    }


def _request_name(channel: Channel) -> str:
    return f"Request{channel.messages[1].__name__}"


def _payload_name(channel: Channel) -> str:
    return _request_name(channel) if channel.key.startswith("request_") else _schema_name(channel.messages[0])


def _schema_name(model: type[BaseModel]) -> str:
    return str(model.__name__)


def _channel(channel: Channel) -> dict[str, Any]:
    address, parameters = channel.address, {}
    for mark, (name, description) in _PARAMETERS.items():
        if f"/{mark}" in address:
            address = address.replace(mark, f"{{{name}}}")
            parameters[name] = {"description": description}
    body: dict[str, Any] = {
        "address": address,
        "summary": channel.summary,
        "messages": {
            _payload_name(channel): {
                "name": _payload_name(channel),
                "contentType": "application/json",
                "payload": {"$ref": f"#/components/schemas/{_payload_name(channel)}"},
            }
        },
        "bindings": {"mqtt": {"bindingVersion": "0.2.0"}},
    }
    if parameters:
        body["parameters"] = parameters
    return body


def _operation_name(channel: Channel) -> str:
    return f"{channel.action}_{channel.key}"


def _operation(channel: Channel) -> dict[str, Any]:
    body: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.key}"},
        "summary": channel.summary,
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": "0.2.0"}},
    }
    if channel.key == "facts" or channel.key.startswith("request_"):
        body["reply"] = {"channel": {"$ref": "#/channels/replies"}}
    return body


def _drop_discriminators(node: Any) -> None:
    """AsyncAPI knows only a string here, OpenAPI (what pydantic writes) an object; ``kind``'s const tells enough."""
    if isinstance(node, dict):
        if isinstance(node.get("discriminator"), dict):
            del node["discriminator"]
        for value in node.values():
            _drop_discriminators(value)
    elif isinstance(node, list):
        for value in node:
            _drop_discriminators(value)


def _fit_facts(schemas: dict[str, Any]) -> None:
    """Tie each fact type that a till sends to its data: one ``if type ... then data ...`` per row of the table."""
    schemas["FactEnvelope"]["allOf"] = [
        {
            "if": {"properties": {"type": {"const": row.name}}, "required": ["type"]},
            "then": {"properties": {"data": {"$ref": f"#/components/schemas/{row.data.__name__}"}}},
        }
        for row in facts.FACTS.values()
        if row.from_till
    ]


def text() -> str:
    """The document as it stands in the file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the document, or tell whether the one on disk has drifted: 0 when it has not."""
    parser = argparse.ArgumentParser(prog="python -m edge.bus.asyncapi", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="write docs/asyncapi.json")
    choice.add_argument("--check", action="store_true", help="exit 1 when docs/asyncapi.json has drifted")
    chosen = parser.parse_args(arguments)
    made = text()
    if chosen.write:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(made, encoding="utf-8")
        return 0
    kept = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if made == kept:
        return 0
    changes = difflib.unified_diff(kept.splitlines(), made.splitlines(), "docs/asyncapi.json", "the code", lineterm="")
    print("\n".join(list(changes)[:40]))
    print("docs/asyncapi.json has drifted: run `python -m edge.bus.asyncapi --write` and read what changed")
    return 1


if __name__ == "__main__":
    sys.exit(main())
