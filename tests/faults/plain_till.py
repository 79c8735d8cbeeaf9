"""A till written from docs/till.md alone, with paho-mqtt and a file: one lane that sells until it is told to finish.

It keeps each fact on its own disk, sends it, and keeps it until `accepted`; it sends it again after every reconnect and
when no answer came for a while: same id, same sequence, same bytes. It asks the gateway for prices, and asks again,
with the same id, until it is answered. SIGTERM: sell no more, see everything answered, end with status 0. It may be
killed at any time.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.faults.ledger import Ledger, read

ROOT = "tg/v1/lanes"
ANSWER_WITHIN_S = 3.0
ASK_EVERY_S = 1.0
MOST_PENDING = 200
TRY_AGAIN = ("storage_full", "too_fast", "faulted", "timed_out")
MEMBER_SHARE = 0.4


@dataclass(slots=True)
class Pending:
    """Something that has no answer yet: its topic, its bytes, and when to send it again (monotonic)."""

    topic: str
    payload: bytes
    fact: bool
    due_s: float = 0.0


class PlainTill:
    """One lane."""

    def __init__(self, port: int, store: str, lane: str, ledger: Path, every_s: float) -> None:
        self.finishing = False
        self._store, self._lane = store, lane
        self._every_s = every_s
        self._chance = random.Random()
        self._pending: dict[str, Pending] = {}
        self._sequence = 0
        for line in read(ledger):
            self._recall(line)
        self._ledger = Ledger(ledger)
        self._happened: queue.Queue[dict[str, Any] | None] = queue.Queue()  # a reply, or None: connected anew
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"plain-{lane}", protocol=mqtt.MQTTv5, reconnect_on_failure=True
        )
        self._client.username_pw_set(lane)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._happened.put(None)
        self._client.on_message = lambda _, __, message: self._happened.put(json.loads(message.payload))
        self._client.connect_async("127.0.0.1", port, keepalive=10)

    def run(self) -> None:
        """Sell until finishing and everything is answered."""
        self._client.loop_start()
        sell_s = ask_s = time.monotonic()
        while not (self.finishing and not self._pending):
            now = time.monotonic()
            if now >= sell_s and not self.finishing and len(self._pending) < MOST_PENDING:
                self._sell()
                sell_s = now + self._every_s * self._chance.uniform(0.5, 1.5)
            if now >= ask_s and not self.finishing:
                self._ask()
                ask_s = now + ASK_EVERY_S * self._chance.uniform(0.5, 1.5)
            self._send_what_is_due()
            self._hear(0.05)
        self._client.disconnect()
        self._client.loop_stop()

    # -- what it does --------------------------------------------------------------------------------------------------

    def _sell(self) -> None:
        receipt, price = f"{self._lane}-{self._sequence + 1}", self._chance.randint(1, 9_999)
        day = {"business_day_date": "2026-05-04", "operator_id": "c1"}
        item = {"line": 1, "item": "4006381333931", "text": "Käse", "quantity": "1", "unit_price_minor": price}
        sale = {**day, "receipt_number": receipt, "currency": "EUR", "total_minor": price}
        self._fact("transaction", "tillgate.sale.completed.v1", {**sale, "lines": [{**item, "amount_minor": price}]})
        tender = {**day, "receipt_number": receipt, "kind": "card", "currency": "EUR", "amount_minor": price}
        self._fact("critical", "tillgate.tender.taken.v1", tender)
        if self._chance.random() < MEMBER_SHARE:
            self._fact("engagement", "tillgate.member.identified.v1", {"receipt_number": receipt, "member": "m-1"})

    def _fact(self, fact_class: str, type_: str, data: dict[str, Any]) -> None:
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": f"/stores/{self._store}/lanes/{self._lane}",
            "type": type_,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sequence": f"{self._sequence + 1:010d}",
            "data": data,
        }
        line = {"made": event, "class": fact_class}
        self._ledger.write(line)
        self._recall(line)

    def _ask(self) -> None:
        line = {"asked": str(uuid.uuid4())}
        self._ledger.write(line)
        self._recall(line)

    def _recall(self, line: dict[str, Any]) -> None:
        """Take a line of the ledger into memory, old or new."""
        if "made" in line:
            event = line["made"]
            self._sequence = int(event["sequence"])
            self._pending[event["id"]] = Pending(f"{ROOT}/{self._lane}/facts", json.dumps(event).encode(), True)
        elif "asked" in line:
            request = {"id": line["asked"], "deadline_ms": 10_000, "parameters": {"code": "4006381333931"}}
            topic = f"{ROOT}/{self._lane}/requests/price.lookup"
            self._pending[line["asked"]] = Pending(topic, json.dumps(request).encode(), False)
        for answer in ("accepted", "refused", "answered"):
            if answer in line:
                self._pending.pop(line[answer], None)

    def _send_what_is_due(self) -> None:
        now = time.monotonic()
        if not self._client.is_connected():
            return
        for id_, one in self._pending.items():
            if one.due_s <= now:
                if one.fact:
                    self._ledger.write({"sent": id_}, sync=False)
                self._client.publish(one.topic, one.payload, qos=1)
                one.due_s = now + ANSWER_WITHIN_S

    # -- what it hears -------------------------------------------------------------------------------------------------

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(f"{ROOT}/{self._lane}/replies", qos=1)

    def _hear(self, within_s: float) -> None:
        """Wait so long for something to happen, then take all that has."""
        try:
            self._take(self._happened.get(timeout=within_s))
            while True:
                self._take(self._happened.get_nowait())
        except queue.Empty:
            return

    def _take(self, reply: dict[str, Any] | None) -> None:
        if reply is None:
            for one in self._pending.values():
                one.due_s = 0.0
            return
        id_ = reply["to"]
        problem = reply.get("problem")
        found = self._pending.get(id_)
        if problem and problem["code"] in TRY_AGAIN and (found is None or found.fact):
            if found:
                wait_ms = problem.get("retry_after_ms")
                found.due_s = time.monotonic() + (wait_ms / 1_000 if wait_ms is not None else ANSWER_WITHIN_S)
            return
        result = reply.get("result") or {}
        if result.get("accepted"):  # also when it is known: the answer to a repeat must be the same
            line = {"accepted": id_, **{key: result[key] for key in ("class", "seq", "epoch")}}
        elif found is None:
            return
        elif found.fact:
            line = {"refused": id_, "problem": problem}
        else:
            line = {"answered": id_, "ok": reply["ok"], "code": problem["code"] if problem else None}
        self._ledger.write(line)
        self._recall(line)


def main() -> int:
    """Be one lane's till."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.plain_till", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="the store's broker on 127.0.0.1")
    parser.add_argument("--store", required=True)
    parser.add_argument("--lane", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--every-ms", type=float, default=250, help="a sale about every so many ms")
    given = parser.parse_args()
    till = PlainTill(given.port, given.store, given.lane, given.ledger, given.every_ms / 1_000)

    def finish(*_: Any) -> None:
        till.finishing = True

    signal.signal(signal.SIGTERM, finish)
    till.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
