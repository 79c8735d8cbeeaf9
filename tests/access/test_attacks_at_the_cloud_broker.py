"""The cloud broker with the mosquitto.conf and the access list that stand in docs/hq.md, and a hostile store at it."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from edge.bus.address import Address, TlsFiles
from edge.bus.client import Client, Message
from edge.bus.errors import BusError
from edge.cli import main
from tests.cloud_bridge.rig import Mosquitto, a_port, until

PAGE = (Path(__file__).parents[2] / "docs" / "hq.md").read_text(encoding="utf-8")
CONF, ACL = re.findall(r"^  ```\n(.*?)^  ```", PAGE.split("In mosquitto's words:")[1], re.MULTILINE | re.DOTALL)[:2]


class Party:
    """Somebody at the cloud broker, with a certificate of HQ's authority; what came to them."""

    def __init__(self, files: Path, port: int) -> None:
        tls = TlsFiles(files / "cloud-ca.pem", files / "store.pem", files / "store.key", server_name="localhost")
        self.client = Client(Address(host="127.0.0.1", port=port, tls=tls), client_id=files.name, clean_start=True)
        self.heard: list[str] = []
        self.client.on_message("tg/v1/#", self._hear)

    def _hear(self, message: Message) -> None:
        message.ack()
        self.heard.append(message.topic)

    async def say(self, *topics: str) -> None:
        for topic in topics:
            with contextlib.suppress(BusError):  # refused
                await self.client.publish(topic, b"{}", qos=1)


async def test_attack_store_speaks_for_another_at_the_cloud_broker(tmp_path: Path) -> None:
    """A gateway in wrong hands says what another store or HQ would, and listens to all: by the access list of
    docs/hq.md it says only what is its own, and hears that and what is for groups.
    """
    hq, port = tmp_path / "hq", a_port()
    assert main(["hq", "authority", "init", str(hq), "--chain", "Example"]) == 0
    for name in ("S1", "S2", "hq-1"):
        assert main(["hq", "authority", "issue", str(hq), "--store", name, "--out", str(tmp_path / name)]) == 0
    assert main(["hq", "authority", "broker", str(hq), "--name", "localhost", "--out", str(tmp_path / "broker")]) == 0
    for file in ("broker.pem", "broker.key"):
        shutil.copy(tmp_path / "broker" / file, hq / file)
    (hq / "acl").write_text(re.sub(r"^  ", "", ACL, flags=re.MULTILINE))
    conf = re.sub(r"^  ", "", CONF, flags=re.MULTILINE).replace("/etc/mosquitto/hq/", f"{hq}/")
    broker = Mosquitto(tmp_path / "cloud", more=conf.replace("listener 8883", f"listener {port} 127.0.0.1"))
    await broker.start()
    try:
        parties = [Party(tmp_path / name, port) for name in ("S1", "S2", "hq-1")]
        hostile, other, receiver = parties
        async with contextlib.AsyncExitStack() as stack:
            for one in parties:
                await stack.enter_async_context(one.client)
                await one.client.wait_connected()
            await hostile.say(
                "tg/v1/S2/up/transaction", "tg/v1/S2/up/status", "tg/v1/S2/confirmed", "tg/v1/S1/confirmed"
            )
            await hostile.say("tg/v1/S2/down/prices", "tg/v1/groups/north/down/prices", "tg/v1/S1/up/transaction")
            await until(lambda: receiver.heard)
            assert receiver.heard == ["tg/v1/S1/up/transaction"]
            down = ["tg/v1/S2/down/prices", "tg/v1/S2/confirmed", "tg/v1/groups/north/down/prices"]
            await receiver.say(*down, "tg/v1/S1/confirmed")
            await until(lambda: "tg/v1/S1/confirmed" in hostile.heard)
            assert hostile.heard == ["tg/v1/groups/north/down/prices", "tg/v1/S1/confirmed"]
            await until(lambda: len(other.heard) == len(down))
            assert other.heard == down
    finally:
        await broker.kill()
