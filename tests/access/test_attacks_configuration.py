"""HQ's configuration of a store, and HQ's keys: only HQ's word, only forwards, only what is bounded."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import config_hq
from edge.access.audit import Audit
from edge.config import StoreConfig, load
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.configuring import UNFIT, WAITS, Configuring
from edge.services.facts import Reporter
from edge.services.warnings import Warnings
from tests.edge.hq_rig import EPOCH, Pen, until

AT = {"issued_at": "2026-05-04T09:30:00.000Z"}


class Rig:
    """A store's configuration on disk and the service that takes HQ's, over a real journal."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.pen = store, Pen(store)
        self.file = folder / "store.toml"
        self.write(self.pen.public)
        self.start()

    def write(self, *keys: str, more: str = "") -> None:
        self.file.write_text(
            f'state_dir = "state"\n[store]\nid = "S1"\n[[lanes]]\nid = "1"\nname = "One"\n[limits]\nburst = 900\n{more}'
            f'[cloud]\nhost = "h"\nprice_key = {json.dumps(keys)}\n'
        )

    def start(self) -> None:
        """Edge starts: reads the configuration again."""
        self.warnings = Warnings()
        self.audit = Audit(Reporter(self.store, "S1"))
        self.pen.believed.change(self.config.cloud.price_key if self.config.cloud else ())
        self.configuring = Configuring(self.config, self.pen.believed, self.audit, self.warnings)
        self.pen.desk.serve("configuration", self.configuring.take)
        self.pen.desk.serve("keys", self.configuring.take_keys)

    @property
    def config(self) -> StoreConfig:
        return load(self.file)

    @property
    def codes(self) -> list[str]:
        return [warning.code for warning in self.warnings.shown()]

    async def sets(self, version: int, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        fields = {"type": "tillgate.configuration.v1", "version": version, "settings": settings, **AT, **more}
        return await self.pen.send("configuration", fields)

    async def audited(self) -> list[tuple[str, str]]:
        return [(one["action"], one["outcome"]) for one in await self.pen.facts("tillgate.audit.recorded.v1")]


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Rig]:
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock(), reserve_bytes=0)
    yield Rig(tmp_path, store)
    await store.close()


async def test_what_hq_sets_is_in_force_and_on_disk(one: Rig) -> None:
    heard: list[StoreConfig] = []
    one.configuring.on_change.append(heard.append)
    answer = await one.sets(10, {"limits": {"burst": 77}, "journal": {"retention_days": 30}, "lanes": {"1": "Express"}})
    assert answer["ok"]
    assert (heard[0].limits.burst, heard[0].journal.retention_days) == (77, 30)
    assert (one.config.limits.burst, one.config.lanes[0].name, one.config.from_hq.version) == (77, "Express", 10)
    assert one.codes == [WAITS]
    assert 'lanes.1 = "Express"' in one.warnings.shown()[0].text
    one.start()
    assert one.codes == []
    assert (await one.sets(11, {}))["ok"]  # undone by a newer one
    assert (one.config.limits.burst, one.config.lanes[0].name) == (900, "One")
    await until(lambda: not one.store.unwritten)
    assert await one.audited() == [("configuration.changed", "done")] * 2


async def test_attack_an_older_configuration_sent_again(one: Rig) -> None:
    """Somebody at the broker keeps a configuration and sends it again, in its place or as a new message: refused."""
    text = json.dumps({"type": "tillgate.configuration.v1", "version": 10, "settings": {"limits": {"burst": 1}}, **AT,
                       "store": "S1", "epoch": EPOCH, "seq": 1})  # fmt: skip
    kept = one.pen.signed(text)
    assert (await one.pen.hand_over("configuration", kept, seq=1))["ok"]
    one.pen.seq = 1
    assert (await one.sets(11, {}))["ok"]
    for seq in (1, 3):
        assert not (await one.pen.hand_over("configuration", kept, seq=seq))["ok"]
    assert not (await one.sets(10, {"limits": {"burst": 1}}))["ok"]
    one.start()
    assert not (await one.sets(10, {"limits": {"burst": 1}}))["ok"]  # nor after a restart
    assert one.config.limits.burst == 900
    assert ("hq.not_believed", "refused") in await one.audited()


async def test_attack_a_forged_configuration_and_anothers(one: Rig) -> None:
    """It is signed by somebody else, or was signed for another store or group: refused, and in the audit."""
    fields = {"type": "tillgate.configuration.v1", "version": 5, "settings": {}, **AT, "epoch": EPOCH, "seq": 1}
    forged = one.pen.signed(json.dumps({**fields, "store": "S1"}), Ed25519PrivateKey.generate())
    assert not (await one.pen.hand_over("configuration", forged, seq=1))["ok"]
    for address in ({"store": "S2"}, {"group": "south"}):
        anothers = one.pen.signed(json.dumps({**fields, **address}))
        assert not (await one.pen.hand_over("configuration", anothers, seq=1))["ok"]
    assert one.config.from_hq.version is None
    await until(lambda: not one.store.unwritten)
    assert await one.audited() == [("hq.not_believed", "refused")] * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"cloud": {"price_key": "x"}},
        {"cloud": {"tls": {"ca": "/tmp/ca.pem"}}},
        {"devices": [{"id": "x"}]},
        {"state_dir": "/tmp"},
        {"bus": {"host": "0.0.0.0"}},
        {"store": {"id": "S2"}},
        {"lanes": {"1": {"id": "9"}}},
        {"limits": {"burst": 0}},
        {"journal": {"retention_days": 0}},
        {"scanning": {"country": "../x"}},
    ],
)
async def test_what_is_not_hqs_to_set_changes_nothing(settings: dict[str, Any], one: Rig) -> None:
    before = one.config
    assert not (await one.sets(10, settings))["ok"]
    assert one.config == before
    config_hq.write(config_hq.configuration_file(one.config.state_dir), {"version": 3, "settings": settings})
    one.start()  # nor when it stands in the file, however it came there
    assert one.config.model_copy(update={"from_hq": before.from_hq}) == before
    assert one.codes == [UNFIT]


async def test_hqs_key_is_replaced_and_the_old_one_is_over(one: Rig) -> None:
    old, new = one.pen.key, Pen(one.store)
    for keys in ((new.public, one.pen.public), (new.public,)):
        version = time.time_ns() // 1000
        assert (await one.pen.send("keys", {"type": "tillgate.hq.keys.v1", "keys": keys, "version": version}))["ok"]
    assert not (await one.sets(10, {}))["ok"]
    one.pen.key = new.key
    assert (await one.sets(11, {}))["ok"]
    one.start()
    assert (await one.sets(12, {}))["ok"]
    assert one.config.cloud is not None
    assert one.config.cloud.price_key == (new.public,)
    one.write(one.pen.public, new.public)  # a person changes store.toml: that counts
    one.pen.key = old
    one.start()
    assert (await one.sets(13, {}))["ok"]


async def test_attack_a_rotation_by_a_stranger_or_sent_again(one: Rig) -> None:
    """A stranger appoints a key, or HQ's rotation of long ago, to one that is lost since, comes again: refused."""
    stranger, lost, new = Pen(one.store), Pen(one.store), Pen(one.store)
    text = json.dumps({"type": "tillgate.hq.keys.v1", "keys": [stranger.public], "version": 2**50, "store": "S1",
                       "epoch": EPOCH, "seq": 1})  # fmt: skip
    assert not (await one.pen.hand_over("keys", stranger.signed(text), seq=1))["ok"]
    fields = {"type": "tillgate.hq.keys.v1", "keys": [one.pen.public, lost.public], "version": 10}
    assert (await one.pen.send("keys", fields))["ok"]
    assert (await one.pen.send("keys", {**fields, "keys": [one.pen.public, new.public], "version": 11}))["ok"]
    assert not (await one.pen.send("keys", fields))["ok"]
    assert one.config.cloud is not None
    assert one.config.cloud.price_key == (one.pen.public, new.public)
