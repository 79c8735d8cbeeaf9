"""HQ's configuration, its keys and its signed word the whole way: HQ's command line, a real broker, the real edge."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Engine

from cloud_bridge.hq import commands, keys
from cloud_bridge.hq.voice import Voice
from edge import config_hq
from edge.config import load
from tests.cloud_bridge.rig import Mosquitto, a_bridge, a_receiver, until
from tests.cloud_bridge.test_commands_whole_way import HQ, answers, store_of


async def test_a_store_is_configured_and_follows_hqs_new_key(hq_file: Engine, cloud: Mosquitto, tmp_path: Path) -> None:
    """Everything is signed: configuration by the main key, confirmations and offers by the receivers' own. Then the
    main key is replaced, and what the new one signs is carried out.
    """
    hq = HQ(tmp_path, cloud.port)
    await hq.run("confirm-key", str(tmp_path / "confirm.key"), "--key", str(tmp_path / "hq.key"))
    (tmp_path / "set.toml").write_text(
        '[limits]\nburst = 321\n[journal]\nretention_days = 14\n[lanes]\n1 = "Express"\n'
    )
    async with store_of(hq, cloud.port) as at:
        voice = Voice.load(tmp_path / "confirm.key")
        async with a_receiver(hq_file, cloud.port, voice=voice), a_bridge(at.config):
            await hq.run("configure", str(tmp_path / "set.toml"), "--store", "BENCH", *hq.way)
            await until(lambda: load(at.config.file).from_hq.version)
            config = load(at.config.file)
            assert (config.limits.burst, config.lanes[0].name) == (321, "Express")
            new = keys.make(tmp_path / "new.key")
            way = [*hq.way[:-1], str(tmp_path / "hq.key")]
            await hq.run("rotate-key", "--to", new, "--to", hq.public, "--group", "north", *way)
            await until(config_hq.keys_file(at.config.state_dir).exists)
            hq.way[-1] = str(tmp_path / "new.key")
            await hq.command("status.report")
            await until(lambda: answers(hq_file).get("status.report", commands.Answer).state == "done")
            told = json.loads(json.dumps((answers(hq_file)["status.report"].answer or {})["result"]["gateway"]))
            assert told["configuration"] == config.from_hq.version
            assert [one["code"] for one in told["warnings"]] == ["configuration_waits"]
        cloud_section = load(at.config.file).cloud
        assert cloud_section is not None
        assert cloud_section.price_key == (new, hq.public)
