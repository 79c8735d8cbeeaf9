"""Cloud brokers as a chain runs them, from Debian's packages: mosquitto, NATS with JetStream, RabbitMQ; clusters too.

Strategy: each node is one child process with a folder of its own, on addresses of its own in 127/8 and free ports; so
all nodes of a cluster have the same port, as behind one name in the DNS. Every node dies with this process. Nothing of
the machine's own brokers is touched: no default port, no file outside the folder, an epmd of our own for Erlang.
What a broker can do (MQTT 5, shared subscriptions) is found by asking it, because that changes with its version.

Source: MQTT 3.1.1 and 5.0, sections 3.1 and 3.2 (CONNECT, CONNACK); rabbitmq-env.conf(5), "Cluster Formation" and
"MQTT Plugin" of the RabbitMQ documentation; "MQTT" and "JetStream" of the NATS documentation; mosquitto.conf(5).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_WITHIN_S = 240.0
"""Three Erlang nodes beside everything else on two cores."""

CONNECT_3 = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
CONNECT_5 = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x05probe"
DISCONNECT = b"\xe0\x00"
SHARED_SUBSCRIPTION_AVAILABLE = b"\x2a\x00"
"""The property of CONNACK that says no."""


@dataclass(slots=True)
class Node:
    """One server process that listens for MQTT on `host`:`port`."""

    command: Sequence[str]
    folder: Path
    host: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; `wait` says when it answers."""
        self._process = start(self.command, self.folder, self.environment)

    def wait(self) -> None:
        """Until the node lets a client in."""
        deadline = time.monotonic() + START_WITHIN_S
        while connack(self.host, self.port, CONNECT_3)[3:4] != b"\0":
            assert self._process is not None
            assert self._process.poll() is None, f"{self.command[0]} ended: {self.said()}"
            assert time.monotonic() < deadline, f"{self.command[0]} does not answer: {self.said()}"
            time.sleep(0.1)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        """The end of what it printed, for a person who must find out why."""
        return (self.folder / "output").read_text(errors="replace")[-2_000:]


@dataclass(slots=True)
class Cloud:
    """A broker, or a cluster of them. `profile` is its row in the bridge's table."""

    name: str
    profile: str
    nodes: list[Node]
    mqtt5: bool = False
    shared: bool = False

    @property
    def port(self) -> int:
        """The same for all nodes."""
        return self.nodes[0].port

    @property
    def protocol(self) -> str:
        """What a client should speak, as it is written in ``store.toml`` and on the command line."""
        return "5" if self.mqtt5 else "3.1.1"

    @property
    def share(self) -> str:
        return "hq" if self.shared else "none"

    def start(self) -> None:
        """Start every node that does not run, all at once, and wait for them."""
        for node in self.nodes:
            if not node.runs:
                node.start()
        for node in self.nodes:
            node.wait()
        answer = connack(self.nodes[0].host, self.port, CONNECT_5)
        self.mqtt5 = answer[3:4] == b"\0"
        self.shared = self.mqtt5 and SHARED_SUBSCRIPTION_AVAILABLE not in answer[4:]

    def stop(self) -> None:
        """Kill what runs: its data is thrown away."""
        for node in self.nodes:
            node.kill()


def start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A child that dies with this process, its output in `folder`."""
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder), **environment},
        )


def connack(host: str, port: int, connect: bytes) -> bytes:
    """What the server answers to the packet `connect`; empty when it answers nothing."""
    try:
        with socket.create_connection((host, port), timeout=2) as line:
            line.sendall(connect)
            answer = line.recv(256)
            line.sendall(DISCONNECT)
            return answer
    except OSError:
        return b""


def free_port(hosts: Sequence[str]) -> int:
    """A port on which nothing listens on any of `hosts`."""
    while True:
        with socket.socket() as probe:
            probe.bind((hosts[0], 0))
            port = int(probe.getsockname()[1])
            try:
                for host in hosts[1:]:
                    with socket.socket() as other:
                        other.bind((host, port))
            except OSError:
                continue
            return port


def program(name: str, package: str) -> str:
    """Where `name` is. Debian keeps servers in sbin, which is not on everybody's path."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")
    assert found, f"{name} is not installed: apt-get install {package} (./dev test does it)"
    return found


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    return folder


# -- the brokers -------------------------------------------------------------------------------------------------------


def mosquitto(parent: Path) -> Cloud:
    """One mosquitto that keeps nothing on disk: what is in its hands when it is killed is gone."""
    folder = _folder(parent, "mosquitto")
    port = free_port(["127.0.0.1"])
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
        f"log_type error\nlog_dest stderr\n{'user root' if os.getuid() == 0 else ''}\n"
    )
    command = [program("mosquitto", "mosquitto"), "-c", str(conf)]
    return Cloud("mosquitto", "mosquitto", [Node(command, folder, "127.0.0.1", port)])


NATS_CONF = """\
server_name: node{number}
host: {host}
port: {client_port}
jetstream {{ store_dir: "{folder}/data" }}
mqtt {{ host: {host}, port: {port} }}
"""
NATS_CLUSTER = """\
cluster {{ name: tillgate, host: {host}, port: {cluster_port}, routes: [{routes}] }}
"""


def nats(parent: Path, hosts: Sequence[str] = ("127.0.0.1",)) -> Cloud:
    """NATS with JetStream, where it keeps sessions and messages of QoS 1: one server on each host, clustered."""
    folder = _folder(parent, "nats")
    port, client_port, cluster_port = (free_port(hosts) for _ in range(3))
    routes = ", ".join(f'"nats-route://{host}:{cluster_port}"' for host in hosts)
    nodes: list[Node] = []
    for number, host in enumerate(hosts, start=1):
        home = _folder(folder, str(number))
        text = NATS_CONF + (NATS_CLUSTER if len(hosts) > 1 else "")
        (home / "nats.conf").write_text(
            text.format(
                number=number,
                host=host,
                port=port,
                client_port=client_port,
                cluster_port=cluster_port,
                routes=routes,
                folder=home,
            )
        )
        nodes.append(Node([program("nats-server", "nats-server"), "-c", str(home / "nats.conf")], home, host, port))
    return Cloud("nats", "nats", nodes)


def nats_cluster(parent: Path) -> Cloud:
    """Three NATS servers, which keep everything threefold."""
    return nats(parent, HOSTS)


HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
POLICY = '{"ha-mode":"all","expires":5000}'
"""Every node has each subscription's queue, so a client can go on at another; one that nobody reads is deleted. In a
chain's cloud ten minutes are a better expiry: 600000."""

RABBIT_CONF = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = {host}:{port}
mqtt.allow_anonymous = true
loopback_users = none
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = tillgate1@localhost
cluster_formation.classic_config.nodes.2 = tillgate2@localhost
cluster_formation.classic_config.nodes.3 = tillgate3@localhost
disk_free_limit.absolute = 1MB
log.file.level = warning
"""


def rabbitmq(parent: Path) -> Cloud:
    """Three RabbitMQ nodes in one cluster, each with the MQTT plugin at its defaults."""
    folder = _folder(parent, "rabbitmq")
    server = program("rabbitmq-server", "rabbitmq-server")
    # Debian's command changes the user and cuts the environment; the one that it calls does neither.
    plain = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    epmd_port, port = free_port(["127.0.0.1"]), free_port(HOSTS)
    nodes: list[Node] = []
    for number, host in enumerate(HOSTS, start=1):
        home = _folder(folder, str(number))
        cookie = home / ".erlang.cookie"
        cookie.write_text("tillgate")
        cookie.chmod(0o600)
        (home / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        (home / "rabbitmq.conf").write_text(RABBIT_CONF.format(host=host, port=port))
        environment = {
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tillgate{number}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port(["127.0.0.1"])),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node instead of watching over it
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        }
        nodes.append(Node([str(plain if plain.exists() else server)], home, host, port, environment))
    return Rabbit("rabbitmq", "rabbitmq", nodes, epmd=[program("epmd", "erlang-base"), "-port", str(epmd_port)])


@dataclass(slots=True)
class Rabbit(Cloud):
    """The cluster, and the registry in which Erlang nodes find each other."""

    epmd: Sequence[str] = ()
    _epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = start(
                self.epmd,
                self.nodes[0].folder.parent,
                {"ERL_EPMD_ADDRESS": "127.0.0.1"},
            )
        # Nodes that look for each other at the very same time can wait for ever: one first, then the others at once.
        first = self.nodes[0]
        if not any(node.runs for node in self.nodes):
            first.start()
            first.wait()
        super(Rabbit, self).start()
        if not self.mqtt5:  # RabbitMQ 3: a subscription is a queue on one node, and neither dies nor lives with it
            self.ctl("set_policy", "mqtt", "^mqtt-subscription-", POLICY, "--apply-to", "queues")

    def stop(self) -> None:
        super(Rabbit, self).stop()
        if self._epmd is not None:
            self._epmd.send_signal(signal.SIGTERM)
            self._epmd.wait()

    def ctl(self, *arguments: str) -> list[str]:
        """The lines that ``rabbitmqctl`` prints, asked of the first node that runs."""
        node = next(node for node in self.nodes if node.runs)
        done = subprocess.run(
            [
                "/usr/lib/rabbitmq/bin/rabbitmqctl",
                "--silent",
                "-n",
                node.environment["RABBITMQ_NODENAME"],
                *arguments,
            ],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(node.folder), **node.environment},
        )
        return done.stdout.splitlines()
