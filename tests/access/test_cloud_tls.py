"""TLS to the cloud broker, a real mosquitto: pins, names, ALPN, versions; and what a person is told when it fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from cloud_bridge.hq_link import cloud_address
from cloud_bridge.link import Diagnosis
from cloud_bridge.profiles import PROFILES
from edge.bus.address import Address, TlsFiles, pin_of
from edge.bus.client import Client, Disconnected
from edge.cli import main
from edge.config import BadConfig
from edge.config_cloud import Cloud
from tests.access.maker import Authority
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import QUICK, Mosquitto, until


def pin(file: Path) -> str:
    return pin_of(x509.load_pem_x509_certificate(file.read_bytes()))


@contextlib.asynccontextmanager
async def cloud(folder: Path, authority: Authority, more: str = "", name: str = "cloud") -> AsyncIterator[int]:
    """A mosquitto that shows a certificate of `authority`; its port."""
    served = authority.issue(name)
    tls = f"cafile {served.ca}\ncertfile {served.certificate}\nkeyfile {served.key}\n{more}"
    broker = Mosquitto(folder / f"broker-{name}", more=tls)
    await broker.start()
    try:
        yield broker.port
    finally:
        await broker.kill()


async def outcome(address: Address) -> str:
    """``connected``, or what a person is told."""
    client = Client(address, client_id="s1", backoff=QUICK, clean_start=True)
    failed: list[Disconnected] = []
    client.on_disconnect.append(failed.append)
    async with client:
        await until(lambda: client.connected or failed)
        if client.connected:
            return "connected"
    verdict = await Diagnosis("127.0.0.1").judge(failed[0].cause, failed[0].detail)
    return f"{failed[0].cause}: {verdict.detail}"


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    """Two authorities of the same name, and a file of both: what the pins must tell apart."""
    made = []
    for name in ("true", "other"):
        made.append(Authority(tmp_path / name))
    (tmp_path / "both.pem").write_bytes(made[0].ca.read_bytes() + made[1].ca.read_bytes())
    return made[0], made[1]


async def test_a_pinned_authority_is_believed(tmp_path: Path, authorities: tuple[Authority, Authority]) -> None:
    true, other = authorities
    both = tmp_path / "both.pem"
    async with cloud(tmp_path, true) as port:
        for pins in ((pin(true.ca),), (pin(other.ca), pin(true.ca))):
            assert await outcome(Address("127.0.0.1", port, tls=TlsFiles(both, pins=pins))) == "connected"


async def test_attack_a_certificate_of_another_authority_that_is_trusted_but_not_pinned(
    tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    """Another authority that this machine trusts gives away the broker's name: with pins there is no connection."""
    true, other = authorities
    both = tmp_path / "both.pem"
    async with cloud(tmp_path, other) as port:
        assert await outcome(Address("127.0.0.1", port, tls=TlsFiles(both))) == "connected"
        said = await outcome(Address("127.0.0.1", port, tls=TlsFiles(both, pins=(pin(true.ca),))))
    assert said != "connected"
    assert "somebody stands in between" in said


async def test_the_brokers_own_certificate_can_be_pinned(
    tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    true, _ = authorities
    async with cloud(tmp_path, true) as port:
        own = tmp_path / "true" / "cloud.pem"
        assert await outcome(Address("127.0.0.1", port, tls=TlsFiles(own, pins=(pin(own),)))) == "connected"


async def test_pins_that_fit_no_certificate_of_the_file(
    tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    true, other = authorities
    async with cloud(tmp_path, true) as port:
        said = await outcome(Address("127.0.0.1", port, tls=TlsFiles(true.ca, pins=(pin(other.ca),))))
    assert "[cloud.tls] ca and pins do not fit together" in said


async def test_the_name_in_the_certificate_may_be_another_than_the_host(
    tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    true, _ = authorities
    async with cloud(tmp_path, true, name="mqtt.hq.example") as port:
        fits = TlsFiles(true.ca, server_name="mqtt.hq.example")
        assert await outcome(Address("127.0.0.1", port, tls=fits)) == "connected"
        said = await outcome(Address("127.0.0.1", port, tls=TlsFiles(true.ca, server_name="other.hq.example")))
        assert "is for another name" in said


def _old(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    return context


async def test_attack_tls_1_1(authorities: tuple[Authority, Authority]) -> None:
    """Whoever stands in between offers only TLS 1.1, which a careless client takes: here there is no connection."""
    true, _ = authorities
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    served = true.issue("old")
    assert served.certificate is not None
    old.load_cert_chain(served.certificate, served.key)
    agreed: list[str] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed.append(writer.get_extra_info("ssl_object").version())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=_old(old)) as server:
        port = server.sockets[0].getsockname()[1]
        said = await outcome(Address("127.0.0.1", port, tls=TlsFiles(true.ca)))
        assert (said == "connected", agreed) == (False, [])
        careless = _old(ssl.create_default_context(cafile=str(true.ca)))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=careless)
        await until(lambda: agreed)
        writer.close()
    assert agreed == ["TLSv1.1"]


async def test_alpn_is_what_the_server_gets_to_hear(tmp_path: Path, authorities: tuple[Authority, Authority]) -> None:
    true, _ = authorities
    served = true.issue("front")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert served.certificate is not None
    context.load_cert_chain(served.certificate, served.key)
    context.set_alpn_protocols(["http/1.1", "x-amzn-mqtt-ca", "mqtt"])
    heard: list[str | None] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        for alpn in ("x-amzn-mqtt-ca", "mqtt", None):
            await outcome(Address("127.0.0.1", port, tls=TlsFiles(true.ca, alpn=alpn)))
    assert list(dict.fromkeys(heard)) == ["x-amzn-mqtt-ca", "mqtt", None]


@pytest.mark.parametrize(
    ("more", "alpn", "written"),
    [
        ({"profile": "aws-iot-core"}, "x-amzn-mqtt-ca", "mqtts://b:443"),
        ({"profile": "emqx"}, "mqtt", "mqtts://b:443"),
        ({"transport": "websocket"}, "http/1.1", "wss://b:443/mqtt"),
        ({"port": 8883}, None, "mqtts://b:8883"),
        ({"tls": {"alpn": ""}}, None, "mqtts://b:443"),
        ({"tls": {"alpn": "own"}, "port": 8883}, "own", "mqtts://b:8883"),
    ],
)
def test_alpn_by_profile_on_443(more: dict[str, object], alpn: str | None, written: str) -> None:
    cloud = Cloud.model_validate({"host": "b", "port": 443, "tls": {}, **more})
    address = cloud_address(cloud, PROFILES[cloud.profile])
    assert address.tls is not None
    assert (address.tls.alpn, str(address)) == (alpn, written)
    assert str(Address.parse(written)) == written


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('pins = ["c2hvcnQ="]', "not a pin"),
        ('pins = ["%%%"]', "not a pin"),
        ('key = "store.key"', "without its certificate"),
    ],
)
async def test_what_cannot_be_right_is_said(lines: str, word: str, configure: Configure) -> None:
    with pytest.raises(BadConfig, match=word):
        configure(8883, f"[cloud.tls]\n{lines}\n")


def test_the_command_prints_pins_as_openssl_computes_them(
    tmp_path: Path, authorities: tuple[Authority, Authority], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cloud", "pins", str(tmp_path / "both.pem")]) == 0
    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    for authority, said in zip(authorities, printed, strict=True):
        spki = subprocess.run(
            ["openssl", "x509", "-in", str(authority.ca), "-noout", "-pubkey"], check=True, capture_output=True
        ).stdout
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "der"], input=spki, check=True, capture_output=True
        )
        assert said == base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()
