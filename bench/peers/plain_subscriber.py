"""A peer for HQ's receiver: a subscriber that inserts each message with one INSERT and one commit, then acknowledges.

As such programs are written: paho-mqtt and psycopg, one loop, the CloudEvent's id as primary key, its text beside it.
Nothing is lost in it (the PUBACK follows the commit) and a message that comes twice is stored once. It knows no
batches, no chain, no order and no confirmation to the store.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import paho.mqtt.client as paho
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

TABLE = (
    "CREATE TABLE IF NOT EXISTS plain (id text PRIMARY KEY, body text NOT NULL,"
    " at timestamptz NOT NULL DEFAULT clock_timestamp())"
)
INSERT = "INSERT INTO plain (id, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def main() -> int:
    """Insert until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="the broker's, on 127.0.0.1")
    parser.add_argument("--url", required=True, help="postgresql://...")
    parser.add_argument("--filter", required=True, help="what to subscribe to")
    options = parser.parse_args()
    db = psycopg.connect(options.url)
    db.execute(TABLE)
    db.commit()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="plain", protocol=paho.MQTTv5, manual_ack=True)

    def subscribe(client: paho.Client, *_: Any) -> None:
        client.subscribe(options.filter, qos=1)

    def insert(client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        db.execute(INSERT, (json.loads(message.payload)["id"], message.payload.decode()))
        db.commit()
        client.ack(message.mid, message.qos)

    def subscribed(*_: Any) -> None:
        print("subscribed", flush=True)

    client.on_connect, client.on_message, client.on_subscribe = subscribe, insert, subscribed
    client.connect("127.0.0.1", options.port)
    client.loop_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
