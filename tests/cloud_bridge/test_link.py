"""Which part of the way is broken: told from files like the kernel's and from real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cloud_bridge.link import Diagnosis, is_loopback, split_address

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
NEARBY = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"  # 192.168.1.0/24
DOWN = DEFAULT.replace("0003", "0002")
V6_DEFAULT = f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth0\n"
V6_LO = V6_DEFAULT.replace("eth0", "  lo")

Box = Callable[..., Diagnosis]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A box with given carriers and routes."""

    def make(
        *,
        carriers: dict[str, str],
        routes: str,
        routes_v6: str = "",
        host: str = "cloud.example",
        probes: tuple[str, ...] = (),
    ) -> Diagnosis:
        for name, carrier in {"lo": "1", **carriers}.items():
            (tmp_path / "net" / name).mkdir(parents=True)
            (tmp_path / "net" / name / "carrier").write_text(f"{carrier}\n")
        (tmp_path / "route").write_text(HEAD + routes)
        (tmp_path / "route6").write_text(routes_v6)
        return Diagnosis(
            host, probes, interfaces=tmp_path / "net", routes=tmp_path / "route", routes_v6=tmp_path / "route6"
        )

    return make


@pytest.fixture
async def open_port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


UP = {"eth0": "1"}


@pytest.mark.parametrize(
    ("carriers", "routes", "routes_v6", "host", "link"),
    [
        ({"eth0": "0"}, DEFAULT, "", "cloud.example", "lan"),
        ({}, DEFAULT, "", "cloud.example", "lan"),
        (UP, "", "", "cloud.example", "lan"),
        (UP, DOWN, "", "cloud.example", "lan"),
        (UP, NEARBY, "", "cloud.example", "lan"),
        (UP, NEARBY, "", "192.168.1.9", "wan"),
        (UP, DEFAULT, "", "cloud.example", "wan"),
        (UP, "", V6_DEFAULT, "cloud.example", "wan"),
        (UP, "", V6_LO, "cloud.example", "lan"),
        ({"eth0": "0"}, "", "", "127.0.0.1", "wan"),
        ({"eth0": "0", "wwan0": "1"}, DEFAULT, "", "cloud.example", "wan"),
    ],
)
async def test_the_stores_own_network(
    box: Box, carriers: dict[str, str], routes: str, routes_v6: str, host: str, link: str
) -> None:
    verdict = await box(carriers=carriers, routes=routes, routes_v6=routes_v6, host=host).judge("timeout")
    assert verdict.link == link
    assert "timeout" in verdict.detail


@pytest.mark.parametrize(
    ("cause", "link"),
    [
        ("name", "wan"),
        ("unreachable", "wan"),
        ("timeout", "wan"),
        ("silent", "wan"),
        ("refused", "cloud"),
        ("closed", "cloud"),
        ("connack:135", "cloud"),
        ("tls", "cloud"),
    ],
)
async def test_without_probes_the_cause_decides(box: Box, cause: str, link: str) -> None:
    assert (await box(carriers=UP, routes=DEFAULT).judge(cause)).link == link


@pytest.mark.parametrize("cause", ["name", "timeout", "silent", "refused", "closed", "connack:135"])
async def test_a_probe_that_answers_makes_it_the_cloud(box: Box, open_port: int, cause: str) -> None:
    probes = ("127.0.0.1:1", f"127.0.0.1:{open_port}")
    assert (await box(carriers=UP, routes=DEFAULT, probes=probes).judge(cause)).link == "cloud"


@pytest.mark.parametrize("cause", ["timeout", "refused", "closed"])
async def test_no_probe_answers_so_it_is_the_line(box: Box, cause: str) -> None:
    assert (await box(carriers=UP, routes=DEFAULT, probes=("127.0.0.1:1",)).judge(cause)).link == "wan"


def test_where_the_kernel_tells_nothing_the_network_is_not_blamed(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    diagnosis = Diagnosis("cloud.example", interfaces=nowhere, routes=nowhere, routes_v6=nowhere)
    assert diagnosis.carrier()
    assert diagnosis.routed()


def test_addresses_are_read() -> None:
    assert split_address("one.example:80") == ("one.example", 80)
    assert split_address("one.example") == ("one.example", 443)
    assert split_address("[2001:db8::1]:53") == ("2001:db8::1", 53)
    assert split_address("2001:db8::1") == ("2001:db8::1", 443)
    with pytest.raises(ValueError, match="port"):
        split_address("one.example:http")
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("192.168.1.9")
