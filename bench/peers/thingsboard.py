"""ThingsBoard's IoT gateway with SQLite storage as a way to HQ: MQTT connector in the store, telemetry to HQ.

    tills -> mosquitto (store) -> gateway: MQTT connector, SQLite storage -> mosquitto (HQ) -> a server that counts

Set up fairly: the connector subscribes with QoS 1 in a lasting session, so the store's broker keeps what the gateway
has not acknowledged; that broker is left alive when the gateway is killed, and its queue has no limit. Sales count as
accepted with that broker's PUBACK: what is then missing at HQ is what the gateway had acknowledged and did not keep.
Rate limits are off, statistics, remote configuration and the update check too.

The server answers what the gateway asks it before it sends anything: `getSessionLimits`, by RPC.

Source: ThingsBoard IoT Gateway 3.8: "Main configuration" (storage, rateLimits), "MQTT connector configuration";
ThingsBoard "MQTT gateway API reference" (v1/gateway/telemetry), "MQTT device API reference" (client-side RPC).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from bench.headquarters import BROKER_CONF
from bench.peers.counter import ARRIVES_WITHIN_S, Counter
from bench.peers.environment import peers_python
from bench.peers.mosquitto_bridge import Broker
from bench.peers.way import Way
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message

RPC_REQUESTS = "v1/devices/me/rpc/request/+"
RPC_RESPONSE = "v1/devices/me/rpc/response/"
TELEMETRY = "v1/gateway/telemetry"
UNLIMITED = "0:0,"
LIMIT_NAMES = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits", "deviceRateLimits")
LINK_WITHIN_S = 90.0
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: the gateway would ask its maker for updates, and nobody outside is asked here."""


class ThingsBoardServer(Counter):
    """As much of a ThingsBoard server as the gateway needs to send telemetry; counts the sales in it."""

    def _prepare(self, client: Client) -> None:
        client.on_message(TELEMETRY, self._telemetry)
        client.on_message(RPC_REQUESTS, self._asked)

    def _asked(self, message: Message) -> None:
        message.ack()
        number = topics.last_level(message.topic)
        limits = {"maxPayloadSize": 65_536, "maxInflightMessages": 0, "rateLimits": {}, "gatewayRateLimits": {}}
        answer: dict[str, Any] = limits if orjson.loads(message.payload).get("method") == "getSessionLimits" else {}
        self.client.publish_soon(RPC_RESPONSE + number, orjson.dumps(answer))

    def _telemetry(self, message: Message) -> None:
        for entries in orjson.loads(message.payload).values():
            for entry in entries:
                for id_ in entry["values"]:
                    self.note(id_)
        message.ack()


class ThingsBoard(Way):
    """The gateway and the store's broker."""

    name: ClassVar[str] = "thingsboard_gateway_sqlite"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._counter = ThingsBoardServer(self.cloud_port)
        # 1,000 unacknowledged at once: more than paho ever takes ahead; the queue behind them has no limit.
        self._broker = Broker(self.processes, f"{BROKER_CONF}max_inflight_messages 1000\n")
        self._gateway: asyncio.subprocess.Process | None = None

    async def start(self) -> Address:
        """Run all, and wait until a first message has gone all the way."""
        await peers_python()
        self._configure()
        await self._counter.connect(self.stack)
        await self._broker.start()
        await self.restart()
        await self._counter.heard_of(self._broker.address, LINK_WITHIN_S)
        return self._broker.address

    async def kill(self) -> None:
        """SIGKILL the gateway; its broker lives on."""
        assert self._gateway is not None
        self._gateway.kill()
        await self._gateway.wait()

    async def restart(self) -> Address:
        """Run the gateway on its database."""
        program = (await peers_python()).with_name("thingsboard-gateway")
        offline = [f"{name}={NOWHERE}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")]
        where = f"TB_GW_CONFIG_DIR={self.folder}/config/"
        # It takes seconds over an orderly end that nobody needs any more.
        self._gateway = await self.processes.start("env", *offline, where, program, cwd=self.folder, by=signal.SIGKILL)
        return self._broker.address

    async def settle(self, last: str) -> None:
        """It has several workers, so order is not its promise: wait until nothing more comes after `last`."""
        await self._counter.has(last, ARRIVES_WITHIN_S)
        await self._counter.quiet()

    async def at_hq(self) -> Sequence[str]:
        """As counted."""
        return self._counter.ids

    def _configure(self) -> None:
        config = self.folder / "config"
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        config.mkdir(exist_ok=True)
        main = {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": self.wan_port,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": {"enable": False},
                "maxPayloadSizeBytes": 65_536,
                "qos": 1,
                "security": {"type": "accessToken", "accessToken": secrets.token_hex(10)},
                **dict.fromkeys(LIMIT_NAMES, UNLIMITED),
                "deviceDpRateLimits": UNLIMITED,
            },
            "storage": {"type": "sqlite", "data_file_path": f"{self.folder}/data/"},
            "connectors": [{"type": "mqtt", "name": "tills", "configuration": "mqtt.json"}],
        }
        mapping = {
            "topicFilter": topics.LANE_FACTS_ANY,
            "subscriptionQos": 1,
            "converter": {
                "type": "json",
                "deviceInfo": {
                    "deviceNameExpressionSource": "topic",
                    "deviceNameExpression": "(?<=lanes/)(.*?)(?=/facts)",
                    "deviceProfileExpressionSource": "constant",
                    "deviceProfileExpression": "default",
                },
                "attributes": [],
                # A key of its own for each sale: values of one key and millisecond would be merged into one.
                "timeseries": [{"type": "raw", "key": "${id}", "value": "${data}"}],
            },
        }
        session = {"cleanSession": False, "cleanStart": False, "sessionExpiryInterval": 86_400}
        broker = {"host": "127.0.0.1", "port": self._broker.port, "clientId": "gateway", "version": 5, **session}
        mqtt = {"broker": {**broker, "security": {"type": "anonymous"}}, "mapping": [mapping]}
        logs = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
        for name, content in (("tb_gateway", main), ("mqtt", mqtt), ("logs", logs)):
            (config / f"{name}.json").write_text(json.dumps(content, indent=2))
