"""`tillgate hq`: price lists with every problem named, signed versions, keys, the table of stores."""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Engine

from cloud_bridge import cli
from cloud_bridge.commands import at_hq
from cloud_bridge.hq import commands, keys, price_list, schema
from cloud_bridge.hq.downlog import Downlog, store_scope
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.record import Recorder
from edge.bus import envelope, frame, topics
from edge.bus.client import Address, Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.prices import PriceItem, PriceManifest, SignedManifest
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, Mosquitto, a_bridge, a_receiver, count_at_hq, scalars, until
from tests.cloud_bridge.test_record import Journal

LIST = (
    'code,text,price_minor,per,tax\n4006381333931,Pencil HB,129,each,A\n2100010,"Bananas, loose",199,kg,\n42,Bag,10,,\n'
)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    cli.bridge(commands)
    cli.hq(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "list.csv"
    file.write_text(LIST)
    return file


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """The secret key's file and the public key as printed."""
    file = tmp_path / "hq.key"
    assert run("hq", "keygen", str(file)) == 0
    return file, capsys.readouterr().out.strip()


def test_a_key_is_private_and_never_overwritten(key: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    file, public = key
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(public)) == 32
    assert keys.public(keys.load(file)) == public
    assert run("hq", "keygen", str(file)) == 2
    assert "there already" in capsys.readouterr().err


def test_a_list_is_read_as_csv_and_as_json_lines(prices: Path, tmp_path: Path) -> None:
    items = price_list.read(prices)
    assert items == [
        PriceItem(code="2100010", text="Bananas, loose", price_minor=199, per="kg"),
        PriceItem(code="4006381333931", text="Pencil HB", price_minor=129, tax="A"),
        PriceItem(code="42", text="Bag", price_minor=10),
    ]
    lines = tmp_path / "list.jsonl"
    lines.write_bytes(b"\n".join(orjson.dumps(item.model_dump()) for item in items))
    assert price_list.read(lines) == items


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["1: the header line lacks code, text, price_minor"]),
        ("code,text,price_minor\n", ["holds no items"]),
        ("code,text\n1,a\n", ["1: the header line lacks price_minor"]),
        (
            "code,text,price_minor,per\n1,a,-5,each\n2,b,1.29,each\n3,c,129,lbs\n,d,1,each\n5,e,1,each\n5,f,1,each\n6,g\n",
            [
                "2: price_minor: Input should be greater than or equal to 0",
                "3: price_minor: must be whole minor units",
                "4: per: Input should be 'each', 'kg' or 'lb'",
                "5: code: Field required",
                "7: code '5' stands on line 6 already",
                "8: has not 4 fields",
            ],
        ),
        (
            '{"code":"1","text":"a","price_minor":"1"}\n{broken\n[1]\n',
            ["1: price_minor", "2: is not JSON", "3: is not a JSON"],
        ),
    ],
)
def test_every_problem_is_named_with_its_line(tmp_path: Path, text: str, problems: list[str]) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(price_list.BadPriceList) as found:
        price_list.read(file)
    assert len(found.value.problems) == len(problems)
    for problem, said in zip(problems, found.value.problems, strict=True):
        assert problem in said


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(price_list.BadPriceList, match="not UTF-8"):
        price_list.read(file)
    with pytest.raises(price_list.BadPriceList, match="cannot be read"):
        price_list.read(tmp_path / "missing.csv")


def test_chunks_fit_a_packet_and_hold_every_item() -> None:
    items = [
        PriceItem(code=str(number), text=hashlib.sha256(str(number).encode()).hexdigest(), price_minor=number)
        for number in range(20_000)
    ]
    parts = price_list.chunks(items)
    assert len(parts) > 5
    assert all(len(part.body) <= price_list.MAX_CHUNK_BYTES for part in parts)
    back = [
        PriceItem.model_validate(orjson.loads(line))
        for part in parts
        for line in zstandard.ZstdDecompressor().decompress(part.body).splitlines()
    ]
    assert back == items
    assert [part.items for part in parts] == [
        len(zstandard.ZstdDecompressor().decompress(part.body).splitlines()) for part in parts
    ]


@pytest.mark.parametrize("time", ["tomorrow", "2026-05-04T06:00:00Z", "2026-05-04T06:00:00+02:00"])
def test_a_version_becomes_effective_in_the_stores_own_time(time: str) -> None:
    with pytest.raises(price_list.BadPriceList, match="local time"):
        price_list.manifest(Recipient(store=STORE), "v1", time, "EUR", [price_list.Chunk(b"", 1)])


async def test_a_published_version_is_signed_and_reaches_the_store(
    hq_url: str,
    cloud: Mosquitto,
    configure: Configure,
    prices: Path,
    key: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = configure(cloud.port)
    arguments = ["--store", STORE, "--version", "v1", "--currency", "EUR", "--key", str(key[0]), "--url", hq_url]
    command = ["hq", "prices", "publish", str(prices), *arguments, "--broker", f"127.0.0.1:{cloud.port}"]
    engine = schema.open_engine(hq_url)
    async with a_receiver(engine, cloud.port), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and edge.status.link == "online")
        assert await asyncio.to_thread(run, *command) == 0
        await until(lambda: len(edge.downs) == 2)
    kept = [payload for _, payload in Downlog(engine).read(store_scope(STORE), "prices", 0, 10)]
    engine.dispose()
    assert edge.downs == kept
    header, body = frame.unpack(kept[0])
    assert (header["stream"], header["seq"], header["kind"]) == ("prices", 1, "manifest")
    signed = SignedManifest.model_validate_json(body)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key[1]))
    public.verify(base64.b64decode(signed.signature), signed.manifest.encode())
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signed.signature), signed.manifest.replace("EUR", "USD").encode())
    manifest = PriceManifest.model_validate_json(signed.manifest)
    assert (manifest.store, manifest.items, len(manifest.chunks)) == (STORE, 3, 1)
    header, chunk = frame.unpack(kept[1])
    assert (header["kind"], header["version"], header["index"]) == ("chunk", "v1", 0)
    assert hashlib.sha256(chunk).hexdigest() == manifest.chunks[0].sha256
    assert "3 items in 1 chunks" in capsys.readouterr().out


def test_a_list_with_problems_is_not_published(
    hq_url: str, tmp_path: Path, key: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("code,text,price_minor\n1,a,x\n")
    arguments = ["--store", STORE, "--version", "v1", "--currency", "EUR", "--key", str(key[0]), "--url", hq_url]
    assert run("hq", "prices", "publish", str(file), *arguments) == 2
    assert "bad.csv:2: price_minor" in capsys.readouterr().err
    engine = schema.open_engine(hq_url)
    assert scalars(engine, schema.downlink_log.c.seq) == []
    engine.dispose()


def test_without_a_broker_a_version_is_kept_in_the_log(
    tmp_path: Path,
    prices: Path,
    key: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(at_hq, "CONNECT_WITHIN_S", 0.5)
    url = f"sqlite:///{tmp_path / 'hq.db'}"
    arguments = ["--store", "a", "--store", "b", "--version", "v1", "--currency", "EUR", "--key", str(key[0])]
    command = ["hq", "prices", "publish", str(prices), *arguments, "--url", url, "--broker", "127.0.0.1:1"]
    assert run(*command) == at_hq.NOT_SENT
    assert "stores get it when they connect" in capsys.readouterr().out
    engine = schema.open_engine(url)
    assert scalars(engine, schema.downlink_log.c.scope) == ["stores/a"] * 2 + ["stores/b"] * 2
    engine.dispose()


async def test_the_stores_are_shown(
    hq: Engine, hq_url: str, cloud: Mosquitto, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge.bus.messages.facts import FactClass

    config = configure(cloud.port)
    async with a_receiver(hq, cloud.port), Edge(config).running() as edge, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 7)
        await until(lambda: edge.confirmed() == 7)
    assert run("hq", "stores", "--url", hq_url) == 0
    table = capsys.readouterr().out
    assert STORE in table
    assert run("hq", "stores", STORE, "--url", hq_url) == 0
    assert "transaction" in capsys.readouterr().out
    assert run("hq", "stores", "nobody", "--url", hq_url) == 2
    assert "never been heard" in capsys.readouterr().err
    assert run("hq", "stores", "--url", hq_url, "--json") == 0
    view = json.loads(capsys.readouterr().out)
    assert view["stores"][0]["classes"]["transaction"]["facts"] == 7
    assert view["stores"][0]["missing"] == 0


def test_a_url_that_is_none_says_what_one_looks_like(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hq", "stores", "--url", "nonsense") == 2
    assert "sqlite:///hq.db" in capsys.readouterr().err
    assert run("hq", "stores", "--url", "mysql://x/y") == 2
    assert "use sqlite or postgresql" in capsys.readouterr().err
    assert run("hq", "stores", "--url", "postgresql+psycopg://hq@127.0.0.1:1/hq") == 2
    assert "is it running" in capsys.readouterr().err


@pytest.mark.parametrize("look", [["stores"], ["verify"], ["command", "list"], ["notice", "list"]])
def test_looking_makes_no_database_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], look: list[str]
) -> None:
    file = tmp_path / "mistyped.db"
    assert run("hq", *look, "--url", f"sqlite:///{file}") == 2
    assert f"there is no database {file}" in capsys.readouterr().err
    assert not file.exists()


def test_a_time_that_is_none_says_what_one_looks_like(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("hq", "notice", "publish", "--store", "s1", "--key", "hq.key", "--text", "Closed.", "--until", "tomorrow")
    assert "'tomorrow' is no time: write 2026-05-04T22:00:00+02:00" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["hq"], ["hq", "receive"], ["hq", "prices", "publish"], ["bridge"]):
        with pytest.raises(SystemExit):
            run(*command, "--help")
        said = capsys.readouterr().out
        assert "store.toml" in said or "--url" in said
        assert len(said) > 200


async def test_many_messages_leave_in_order_and_their_progress_is_shown_on_a_terminal(
    cloud: Mosquitto, tmp_path: Path, prices: Path, key: tuple[Path, str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    heard: list[str] = []

    def on_down(message: Message) -> None:
        heard.append(message.topic)
        message.ack()

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    tap = Client(Address(host="127.0.0.1", port=cloud.port), client_id="tap", clean_start=True)
    tap.on_message(topics.down_any("any").replace("any", "+"), on_down)
    stores = [f"s{number:02d}" for number in range(25)]
    to = [argument for store in stores for argument in ("--store", store)]
    arguments = [*to, "--version", "v1", "--currency", "EUR", "--key", str(key[0])]
    where = ["--url", f"sqlite:///{tmp_path / 'hq.db'}", "--broker", f"127.0.0.1:{cloud.port}"]
    async with tap:
        await tap.wait_connected()
        assert await asyncio.to_thread(run, "hq", "prices", "publish", str(prices), *arguments, *where) == 0
        await until(lambda: len(heard) == 50)
    assert heard == [topics.down(store, "prices") for store in stores for _ in range(2)]
    assert "sent 32 of 50 messages\rsent 50 of 50 messages\n" in capsys.readouterr().err


def test_what_a_store_says_of_commands_neither_breaks_the_list_nor_steers_the_terminal(
    hq: Engine, key: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    id_, _, _ = commands.give(
        hq, keys.load(key[0]), Recipient(store=STORE), "status.report", {}, by="me", lifetime=timedelta(hours=1)
    )
    problem = {"code": "\x1b[2J", "detail": "\x1b]0;mine\x07"}
    data: list[object] = [
        "no object",
        {"command": id_, "operation": None, "ok": False, "problem": "no object"},
        {"command": id_, "operation": None, "ok": False, "problem": {}},
        {"command": None, "operation": None, "ok": False},
        {"command": None, "operation": None, "ok": False, "problem": problem},
        {"command": id_, "operation": None, "ok": False, "problem": problem},
    ]
    events = [envelope.build(commands.FINISHED, envelope.gateway_source(STORE), one) for one in data]  # type: ignore[arg-type]
    bodies = [
        envelope.canonical({**event, "tgclass": "operation", "tgseq": seq}) for seq, event in enumerate(events, start=1)
    ]
    Recorder(hq).record([Journal(bodies, FactClass.OPERATION).cut(1, len(bodies))])
    assert count_at_hq(hq) == len(bodies)
    (view,) = commands.look(hq)
    assert [answer.state for answer in view.answers] == ["failed"]
    assert len(commands.strangers(hq)) == 1
    capsys.readouterr()
    url = hq.url.render_as_string(hide_password=False)
    for arguments in (["list"], ["list", "--json"], ["show", id_]):
        assert run("hq", "command", *arguments, "--url", url) == 0
        assert "\x1b" not in capsys.readouterr().out
