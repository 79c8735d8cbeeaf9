"""HQ's connection keeps its broker's rate too, however many stores want an answer at once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from sqlalchemy import Engine

from cloud_bridge.hq.receiver import Receiver
from cloud_bridge.pace import Budget
from edge.bus import topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.links import Need
from tests.cloud_bridge.rig import QUICK, until
from tests.cloud_bridge.stand_in import StandIn
from tests.cloud_bridge.stand_in_limits import AWS_IOT_CORE

STORES = 80
LIMIT_PER_S = 60
OURS_PER_S = 48
"""A fourth above this may leave within a second."""


async def test_many_stores_that_ask_at_once_are_all_answered_at_the_brokers_rate(hq_file: Engine) -> None:
    limits = replace(AWS_IOT_CORE, publishes_per_s=LIMIT_PER_S, receive_maximum=100)
    answered: set[str] = set()

    def on_confirmed(message: Message) -> None:
        answered.add(topics.last_level(message.topic.removesuffix("/confirmed")))
        message.ack()

    async with StandIn(limits).running() as broker:
        address = Address(host="127.0.0.1", port=broker.port)
        client = Client(address, client_id="hq", clean_start=True, backoff=QUICK, max_in_flight=50)
        receiver = Receiver(hq_file, client, budget=Budget(publishes_per_s=OURS_PER_S))
        watchers = [
            Client(address, client_id=f"stores-{number}", clean_start=True, backoff=QUICK, max_filters=8)
            for number in range(4)
        ]
        for number, watcher in enumerate(watchers):  # each reads a part, so that none is sent more than it may be
            for store in range(number, STORES, len(watchers)):
                watcher.on_message(topics.confirmed(f"s{store}"), on_confirmed)
        async with client, contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            running = group.create_task(receiver.run(), name="hq")
            for watcher in watchers:
                await stack.enter_async_context(watcher)
                await watcher.wait_connected()
            for store in range(STORES):
                need = Need(store=f"s{store}", have={})
                watchers[store % 4].publish_soon(topics.up_need(f"s{store}"), need.model_dump_json().encode())
            await until(lambda: len(answered) == STORES)
            running.cancel()
        # How fast the stores' questions come is not HQ's to say.
        assert [one for one in broker.broken if not one.detail.endswith("/up/need")] == []
