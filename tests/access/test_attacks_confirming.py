"""The cloud broker is others': what it makes up of confirmations and offers, with the real bridge and receiver.

The attacker is a client of the same broker that may publish and read everything, which is what a broker's
administrator can do. Forged messages are written from the documents, not with the product's own pen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from cloud_bridge.hq.voice import Voice, state
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import QUICK, Edge, Mosquitto, a_bridge, a_receiver, until

CONFIRMED, OFFER = "tg/v1/s1/confirmed", "tg/v1/s1/down/offer"


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


class Attacker:
    """Hears everything that passes the broker, and publishes what it likes."""

    def __init__(self, port: int) -> None:
        self.client = Client(Address("127.0.0.1", port), client_id="mallory", clean_start=True, backoff=QUICK)
        self.heard: list[tuple[str, bytes]] = []
        self.client.on_message("tg/#", self._hear)

    def _hear(self, message: Message) -> None:
        self.heard.append((message.topic, message.payload))
        message.ack()

    def said(self, topic: str) -> list[bytes]:
        return [payload for at, payload in self.heard if at == topic]

    async def says(self, topic: str, payload: bytes | dict[str, Any]) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self.client.publish(topic, body)


@contextlib.asynccontextmanager
async def attacker(port: int) -> AsyncIterator[Attacker]:
    one = Attacker(port)
    async with one.client:
        await one.client.wait_connected()
        yield one


def signed(key: Ed25519PrivateKey, text: dict[str, Any]) -> dict[str, Any]:
    plain = json.dumps(text)
    return {"text": plain, "signature": base64.b64encode(key.sign(plain.encode())).decode()}


def everything(epoch: str, seq: int = 10_000) -> dict[str, Any]:
    return {"epoch": epoch, "confirmed": {"transaction": seq}}


def word(says: dict[str, Any], about: str = "confirmed", store: str = "s1", at_ms: int = 2**52) -> dict[str, Any]:
    return {"type": "tillgate.hq.said.v1", "store": store, "about": about, "at_ms": at_ms, "says": says}


class Hq:
    """HQ's main key, and the voice of its receivers."""

    def __init__(self) -> None:
        self.main, self.confirm = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.voice = Voice(self.confirm, state(self.main, (public(self.confirm),)))

    @property
    def lines(self) -> str:
        return f'price_key = "{public(self.main)}"\n'


@pytest.fixture
def hq() -> Hq:
    return Hq()


@contextlib.asynccontextmanager
async def store_that_knows(
    hq: Hq, engine: Engine, broker: Mosquitto, configure: Callable[..., Any], more: str = ""
) -> AsyncIterator[tuple[Edge, Attacker]]:
    """A store that has had five facts confirmed by the true receiver, which is gone now; two facts wait."""
    config = configure(broker.port, hq.lines + more)
    async with Edge(config).running() as edge, attacker(broker.port) as mallory, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 5)
        async with a_receiver(engine, broker.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 5)
            await until(lambda: mallory.said(OFFER))
        await edge.journal(FactClass.TRANSACTION, 2)
        await until(lambda: edge.status and edge.status.link == "online")
        yield edge, mallory
        async with a_receiver(engine, broker.port, "hq-again", voice=hq.voice):
            await until(lambda: edge.confirmed() == 7)  # and nothing of it has hurt
            await until(lambda: edge.status and not edge.status.detail)


async def refused(edge: Edge, words: str) -> None:
    """Wait until a person is told; nothing was confirmed by it, now or ever."""
    await until(lambda: any(words in one.detail for one in edge.statuses))
    assert max(one.confirmed.get(FactClass.TRANSACTION, 0) for one in edge.statuses) == 5


async def test_attack_forged_confirmation_unsigned(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The cloud broker tells a store that HQ has everything: the store keeps its facts and says that it is lied to."""
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        await mallory.says(CONFIRMED, everything(edge.store.epoch))
        await refused(edge, "came unsigned")


async def test_attack_forged_confirmation_with_a_key_of_its_own(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker signs with a key of its own, also with a newer statement that the key is HQ's: neither is believed."""
    own = Ed25519PrivateKey.generate()
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        serial = json.loads(mallory.said(CONFIRMED)[-1])["serial"]
        body = signed(own, word(everything(edge.store.epoch)))
        await mallory.says(CONFIRMED, {**body, "serial": serial})
        await refused(edge, "signed by somebody else")
        statement = {
            "type": "tillgate.hq.confirm-keys.v1",
            "keys": [public(own)],
            "serial": serial + 1,
            "not_after": "2099-01-01T00:00:00Z",
        }
        for signer in (own, hq.confirm):  # the receivers' key may not appoint others either
            await mallory.says(CONFIRMED, {**body, "serial": serial + 1, "statement": signed(signer, statement)})
        await refused(edge, "not signed by HQ's key")


async def test_attack_older_keys_of_the_receivers_brought_back(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker has a receiver's former key and kept its statement, and sends both under a number as of a newer one:
    the number that HQ signed counts, and what was replaced stays replaced.
    """
    stolen, then = Ed25519PrivateKey.generate(), 1_600_000_000_000
    statement = {
        "type": "tillgate.hq.confirm-keys.v1",
        "keys": [public(stolen)],
        "serial": then,
        "not_after": "2099-01-01T00:00:00Z",
    }
    former = signed(hq.main, statement)
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        body = signed(stolen, word(everything(edge.store.epoch, 7)))
        await mallory.says(CONFIRMED, {**body, "serial": 2**53, "statement": former})
        await refused(edge, "another number than HQ signed")
        await mallory.says(CONFIRMED, {**body, "serial": then, "statement": former})
        await refused(edge, "keys that HQ has replaced")


async def test_attack_messages_swapped_between_stores(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker hands a store what HQ said to another store, or of another matter: both stand in what is signed."""
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        serial = json.loads(mallory.said(CONFIRMED)[-1])["serial"]
        says = everything(edge.store.epoch, 7)
        await mallory.says(CONFIRMED, {**signed(hq.confirm, word(says, store="s2")), "serial": serial})
        await refused(edge, "word on confirmed to store s2")
        await mallory.says(CONFIRMED, {**signed(hq.confirm, word(says, "offer")), "serial": serial})
        await refused(edge, "word on offer to store s1")


async def test_attack_an_old_confirmation_kept_and_sent_again(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker keeps a true word of HQ's (from before HQ lost its database, say) and sends it days on: too old."""
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        last = json.loads(mallory.said(CONFIRMED)[-1])
        at_ms = json.loads(last["text"])["at_ms"] - 3 * 24 * 3600 * 1000
        old = signed(hq.confirm, word(everything(edge.store.epoch, 7), at_ms=at_ms))
        await mallory.says(CONFIRMED, {**old, "serial": last["serial"]})
        await refused(edge, "an old word of HQ's came again")


async def test_attack_forged_offer(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker answers a store's question with an offer that skips a million messages, so that no price would come
    any more: unsigned, it moves no position.
    """
    async with store_that_knows(hq, hq_file, cloud, configure) as (edge, mallory):
        asked = len(mallory.said("tg/v1/s1/up/need"))
        await cloud.kill()
        await cloud.start()
        await until(lambda: len(mallory.said("tg/v1/s1/up/need")) > asked)
        question = json.loads(mallory.said("tg/v1/s1/up/need")[-1])
        skip = {"epoch": "0197a3c4-0000-7000-8000-000000000009", "first": 10**6, "until": 0, "last": 10**6}
        await mallory.says(OFFER, {"ask": question["ask"], "streams": {"prices": skip}})
        await refused(edge, "came unsigned")
    rows = await edge_positions(edge)
    assert rows == []


async def edge_positions(edge: Edge) -> list[Any]:
    """What the bridge keeps of downlink positions."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(edge.config.bridge_db)) as db:
        return db.execute("SELECT * FROM downlink").fetchall()


async def test_attack_unsigned_before_hq_was_ever_heard(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """The broker lies from a store's first minute: with `confirm_proof = "always"` nothing unsigned is believed."""
    config = configure(cloud.port, hq.lines + 'confirm_proof = "always"\n')
    async with Edge(config).running() as edge, attacker(cloud.port) as mallory, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 3)
        await until(lambda: edge.status and edge.status.link == "online")
        await mallory.says(CONFIRMED, everything(edge.store.epoch, 3))
        await until(lambda: any("came unsigned" in one.detail for one in edge.statuses))
        assert edge.confirmed() == 0
        async with a_receiver(hq_file, cloud.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 3)


async def test_what_was_learnt_holds_after_a_restart(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    config = configure(cloud.port, hq.lines)
    async with Edge(config).running() as edge, attacker(cloud.port) as mallory:
        await edge.journal(FactClass.TRANSACTION, 5)
        async with a_bridge(config), a_receiver(hq_file, cloud.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 5)
        await edge.journal(FactClass.TRANSACTION, 2)
        edge.statuses.clear()
        async with a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")
            await mallory.says(CONFIRMED, everything(edge.store.epoch, 7))
            await refused(edge, "came unsigned")


async def test_attack_an_old_confirmation_sent_after_a_restart(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """It waits until the bridge was started again and sends a true word of days ago before HQ speaks: too old."""
    config = configure(cloud.port, hq.lines)
    async with Edge(config).running() as edge, attacker(cloud.port) as mallory:
        await edge.journal(FactClass.TRANSACTION, 5)
        async with a_bridge(config), a_receiver(hq_file, cloud.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 5)
            last = json.loads(mallory.said(CONFIRMED)[-1])
        await edge.journal(FactClass.TRANSACTION, 2)
        edge.statuses.clear()
        at_ms = json.loads(last["text"])["at_ms"] - 3 * 24 * 3600 * 1000
        old = signed(hq.confirm, word(everything(edge.store.epoch, 7), at_ms=at_ms))
        async with a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")
            await mallory.says(CONFIRMED, {**old, "serial": last["serial"]})
            await refused(edge, "an old word of HQ's came again")


@pytest.mark.parametrize("lines", ["", 'confirm_proof = "never"\n', "learn"])
async def test_receivers_without_a_confirm_key_are_believed_where_nothing_else_was_asked_for(
    lines: str,
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    key = "" if not lines else hq.lines
    config = configure(cloud.port, key + ("" if lines == "learn" else lines))
    async with Edge(config).running() as edge, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 3)
        async with a_receiver(hq_file, cloud.port):
            await until(lambda: edge.confirmed() == 3)


async def test_a_store_without_a_price_key_understands_a_receiver_that_signs(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge, a_bridge(config), a_receiver(hq_file, cloud.port, voice=hq.voice):
        await edge.journal(FactClass.TRANSACTION, 3)
        await until(lambda: edge.confirmed() == 3)


async def test_attack_unsigned_after_the_main_key_was_replaced(
    hq: Hq, hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    """HQ's main key is another since, so that the statement a store has kept counts no more: nothing unsigned is
    believed all the same.
    """
    config = configure(cloud.port, hq.lines)
    async with Edge(config).running() as edge, attacker(cloud.port) as mallory:
        await edge.journal(FactClass.TRANSACTION, 5)
        async with a_bridge(config), a_receiver(hq_file, cloud.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 5)
        await edge.journal(FactClass.TRANSACTION, 2)
        edge.statuses.clear()
        other = Hq()
        config = configure(cloud.port, other.lines)
        async with a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")
            await mallory.says(CONFIRMED, everything(edge.store.epoch, 7))
            await refused(edge, "came unsigned")
            async with a_receiver(hq_file, cloud.port, voice=other.voice):
                await until(lambda: edge.confirmed() == 7)


async def test_a_new_confirm_key_replaces_the_old_one(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    """A receiver starts with a new key while the store is connected: it is introduced; the old one is over."""
    new = Ed25519PrivateKey.generate()
    config = configure(cloud.port, hq.lines)
    async with Edge(config).running() as edge, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 3)
        async with a_receiver(hq_file, cloud.port, voice=hq.voice):
            await until(lambda: edge.confirmed() == 3)
        await asyncio.sleep(0.002)  # serials are milliseconds
        async with a_receiver(hq_file, cloud.port, "new", voice=Voice(new, state(hq.main, (public(new),)))):
            await edge.journal(FactClass.TRANSACTION, 3)
            await until(lambda: edge.confirmed() == 6)
        async with a_receiver(hq_file, cloud.port, "old", voice=hq.voice):
            await edge.journal(FactClass.TRANSACTION, 3)
            await until(lambda: any("keys that HQ has replaced" in one.detail for one in edge.statuses))
            assert edge.confirmed() == 6


async def test_a_statement_that_is_over_loses_nothing_and_says_what_to_do(
    hq: Hq,
    hq_file: Engine,
    cloud: Mosquitto,
    configure: Configure,
) -> None:
    over = Voice(hq.confirm, state(hq.main, (public(hq.confirm),), days=-1))
    config = configure(cloud.port, hq.lines)
    async with Edge(config).running() as edge, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 3)
        async with a_receiver(hq_file, cloud.port, voice=over):
            await until(lambda: any("compare `date` here with a watch" in one.detail for one in edge.statuses))
            assert edge.confirmed() == 0
        await asyncio.sleep(0.002)
        fresh = Voice(hq.confirm, state(hq.main, (public(hq.confirm),)))
        async with a_receiver(hq_file, cloud.port, "fresh", voice=fresh):
            await until(lambda: edge.confirmed() == 3)
