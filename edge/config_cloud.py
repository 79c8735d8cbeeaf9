"""``[cloud]`` of ``store.toml``: where HQ's broker is, how this store proves itself, and whose word it believes."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edge.config_terms import Id, Port, Section

CloudProfile = Literal["safe", "aws-iot-core", "azure-event-grid", "emqx", "hivemq-ce", "mosquitto", "nats", "rabbitmq"]
"""The rows of the bridge's table of cloud brokers (``cloud_bridge/profiles.py``)."""


def _32_bytes(what: str) -> AfterValidator:
    """Checks that a text is 32 bytes in base64; `what` says what they should be."""

    def check(value: str) -> str:
        try:
            size = len(base64.b64decode(value, validate=True))
        except binascii.Error:
            size = 0
        if size != 32:
            raise ValueError(f"not {what}")
        return value

    return AfterValidator(check)


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


HqKey = Annotated[str, _32_bytes("an Ed25519 public key: 32 bytes in base64, as `tillgate hq keygen` prints it")]
Pin = Annotated[str, _32_bytes("a pin: the SHA-256 of a SubjectPublicKeyInfo, 32 bytes in base64 (RFC 7469)")]


class CloudTls(Section):
    """How broker and store prove themselves to each other; PEM files. Without `ca` the system's authorities are asked.

    With `pins` only those authorities are believed whose key is pinned: a certificate that another authority gave away
    for the broker's name is worth nothing then. Name the next authority's pin before the broker changes to it.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = Field(default=None, description="what the broker's certificate says; default: host")
    alpn: str | None = Field(default=None, description="default: on port 443 what the profile wants; empty: none")
    pins: tuple[Pin, ...] = Field(default=(), description="SHA-256 of an authority's SubjectPublicKeyInfo, base64")

    @model_validator(mode="after")
    def _pair(self) -> CloudTls:
        if self.certificate is None and self.key is not None:
            raise ValueError("a key without its certificate proves nothing; give the certificate too")
        return self


def unsafe_files(cloud: Cloud) -> list[str]:
    """What is wrong with the files that `cloud` names, in sentences: one that is missing, a secret that others read."""
    tls = cloud.tls or CloudTls()
    named = {"[cloud.tls] ca": tls.ca, "[cloud.tls] certificate": tls.certificate}
    secret = {"[cloud.tls] key": tls.key, "[cloud] password_file": cloud.password_file}
    wrong: list[str] = []
    for key, file in (named | secret).items():
        if file is None:
            continue
        try:
            mode = file.stat().st_mode
        except OSError as error:
            wrong.append(f"{key}: {file}: {error.strerror}")
            continue
        if file in secret.values() and mode & 0o077:
            wrong.append(f"{key}: {file} can be read by others than its owner; chmod 600 {file}")
    return wrong


class CloudBudget(Section):
    """What the line to HQ may cost; a key replaces that of `link`. Critical facts wait for no hour's budget."""

    bytes_per_s: int | None = Field(default=None, ge=1_024, description="on average; a fourth of it may leave at once")
    bytes_per_hour: int | None = Field(default=None, ge=262_144)
    messages_per_hour: int | None = Field(default=None, ge=60)


class Cloud(Section):
    """The link to HQ. Without this table the store works alone and keeps everything."""

    host: str
    port: Port = 8883
    transport: Literal["tcp", "websocket"] = "tcp"
    path: str = Field(default="/mqtt", pattern=r"^/[!-~]*$", description="of the WebSocket")
    tls: CloudTls | None = None
    username: str | None = None
    password_file: Path | None = None
    protocol: Literal["5", "3.1.1"] = "5"
    profile: CloudProfile = "safe"
    confirm: Literal["hq", "broker"] = "hq"
    wire: Literal["batch", "single"] = "batch"
    link: Literal["fibre", "lte"] = "fibre"
    budget: CloudBudget = CloudBudget()
    groups: tuple[Id, ...] = ()
    price_key: Annotated[tuple[HqKey, ...], BeforeValidator(_one_or_more)] = Field(
        default=(), description="HQ's Ed25519 public key for all it sends, base64; several while one is replaced"
    )
    confirm_proof: Literal["learn", "always", "never"] = Field(
        default="learn",
        description="learn: from HQ's first statement of confirm keys on, only what they signed is believed",
    )
    probes: tuple[str, ...] = Field(
        default=(), description="host:port pairs on the internet, asked only to tell 'wan' from 'cloud' when it fails"
    )
