"""Sealed snapshots: taken while edge writes, opened by another box with the keyring, and by nobody else."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from edge.bus.messages.facts import FactClass
from edge.daemon import SCHEMAS
from edge.journal.audit import verify
from edge.journal.clock import Clock
from edge.journal.commands import add_commands
from edge.journal.reader import Reader
from edge.journal.snapshot import CHUNK_BYTES, MAGIC, TAG_BYTES, BadSnapshot, Header, read_header, restore, take
from edge.journal.store import Accepted, Store
from edge.seal import KEY_FILE, Keyring, Unsealable
from tests.access.privacy_rig import files_with
from tests.edge.journal_facts import fact

SALES = FactClass.TRANSACTION
PLANTED = b"planted-Pfirsiche"
AT_MS = 1_770_000_000_000


async def opened(path: Path) -> Store:
    return await Store.open(path, "s1", clock=Clock(), schemas=SCHEMAS, reserve_bytes=0)


async def sold(store: Store, first: int, last: int) -> None:
    texts = {number: f"{PLANTED.decode()} {number}" for number in range(first, last + 1)}
    facts = [fact("3", number, text=text, id_=f"sale-{number}") for number, text in texts.items()]
    await asyncio.gather(*(store.append(one) for one in facts))


@pytest.fixture
async def made(tmp_path: Path) -> tuple[Path, Keyring, Header]:
    """A snapshot of several chunks, and the keyring that opens it."""
    (tmp_path / "old").mkdir()
    store = await opened(tmp_path / "old" / "store.db")
    await sold(store, 1, 1_500)
    keyring = store.keyring
    target = tmp_path / "store.snapshot"
    header = await asyncio.to_thread(take, store.path, target, keyring, at_ms=AT_MS)
    await store.close()
    assert target.stat().st_size > 3 * CHUNK_BYTES
    return target, keyring, header


async def test_another_box_goes_on_from_it_as_a_new_epoch(made: tuple[Path, Keyring, Header], tmp_path: Path) -> None:
    taken, keyring, header = made
    assert read_header(taken) == header
    assert (header.store, header.heads["transaction"], header.made_at) == ("s1", 1_500, "2026-02-02T02:40:00.000Z")
    box = tmp_path / "another box"
    box.mkdir()
    (box / KEY_FILE).write_text(keyring.text())
    assert restore(taken, box / "store.db", keyring) == header
    store = await opened(box / "store.db")
    assert store.epoch != header.epoch
    assert store.lane_highest("3") == 1_500, "lanes go on counting"
    repeated = await store.record(fact("3", 7, text=f"{PLANTED.decode()} 7", id_="sale-7"))
    assert not isinstance(repeated, Accepted) or repeated.epoch == header.epoch
    assert await store.record(fact("3", 1_501)) == Accepted(SALES, store.heads[SALES], store.epoch, repeated=False)
    reader = await Reader.open(box / "store.db")
    assert (await reader.heads(header.epoch))[SALES] == 1_500
    assert PLANTED in (await reader.tail(SALES, 1_499, epoch=header.epoch))[0].body
    await reader.close()
    await store.close()
    assert verify(box / "store.db").ok
    store = await opened(box / "store.db")
    assert store.salvaged is None
    await store.close()


async def test_it_is_consistent_while_sales_come_in(tmp_path: Path) -> None:
    store = await opened(tmp_path / "store.db")
    await sold(store, 1, 500)
    taking = asyncio.create_task(
        asyncio.to_thread(take, store.path, tmp_path / "s.snapshot", store.keyring, at_ms=AT_MS)
    )
    number = 500
    while not taking.done():
        number += 1
        await store.record(fact("3", number))
    header = await taking
    await store.close()
    assert 500 <= header.heads["transaction"] <= number
    restore(tmp_path / "s.snapshot", tmp_path / "copy.db", store.keyring)
    assert verify(tmp_path / "copy.db").salvaged == sum(header.heads.values())
    assert [path.name for path in tmp_path.glob(".*")] == [], "nothing is left lying about"


async def test_attack_stolen_backup(made: tuple[Path, Keyring, Header], tmp_path: Path) -> None:
    """Somebody takes the backup medium: no text of a sale is on it, and without the store's key nothing opens."""
    taken, _, _ = made
    (tmp_path / "stick").mkdir()
    shutil.copy(taken, tmp_path / "stick")
    assert files_with(tmp_path / "stick", PLANTED, b"sale-7", b"specversion") == []
    with pytest.raises(Unsealable) as error:
        restore(taken, tmp_path / "store.db", Keyring.new())
    assert error.value.missing
    assert not (tmp_path / "store.db").exists()


async def test_attack_tampered_snapshot(made: tuple[Path, Keyring, Header], tmp_path: Path) -> None:
    """Somebody changes, moves, doubles or cuts off parts of a backup: it does not open, and none of it is used."""
    taken, keyring, header = made
    whole = taken.read_bytes()
    start = len(whole) - _chunks_bytes(whole)
    chunk = CHUNK_BYTES + TAG_BYTES
    first, second, rest = (
        whole[start : start + chunk],
        whole[start + chunk : start + 2 * chunk],
        whole[start + 2 * chunk :],
    )
    head = whole[:start]
    changed = {
        "a byte of each part of the start": [
            _flipped(whole, at) for at in (0, len(MAGIC), len(MAGIC) + 4, len(MAGIC) + 36, start - 3)
        ],
        "another epoch in the header": [whole.replace(header.epoch.encode(), b"0" * 36, 1)],
        "a byte of a chunk, of its tag, of the last": [
            _flipped(whole, at) for at in (start + 5, start + chunk - 1, len(whole) - 1)
        ],
        "cut off between chunks": [head + first, head + first + second, head],
        "cut off within one": [whole[:-1], whole[: start + 100], whole[: start - 1], b""],
        "swapped, left out, doubled": [
            head + second + first + rest, head + second + rest, head + first + first + second + rest,
        ],
        "something behind": [whole + b"x", whole + rest],
    }  # fmt: skip
    for what, files in changed.items():
        for content in files:
            assert content != whole
            taken.write_bytes(content)
            with pytest.raises((BadSnapshot, Unsealable)):
                restore(taken, tmp_path / "store.db", keyring)
            assert not (tmp_path / "store.db").exists(), what
    assert list(tmp_path.glob(".*")) == []


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _chunks_bytes(whole: bytes) -> int:
    length = int.from_bytes(whole[len(MAGIC) + 36 : len(MAGIC) + 40], "big")
    return len(whole) - (len(MAGIC) + 40 + length)


async def test_parts_of_two_snapshots_do_not_mix(tmp_path: Path) -> None:
    """The same store, the same key, the same header: each file has its own key all the same."""
    store = await opened(tmp_path / "store.db")
    await sold(store, 1, 1_500)
    await store.close()
    one, two = tmp_path / "one", tmp_path / "two"
    for target in (one, two):
        take(store.path, target, store.keyring, at_ms=AT_MS)
    content, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(content[: -_chunks_bytes(content)] + other[-_chunks_bytes(other) :])
    with pytest.raises(BadSnapshot):
        restore(one, tmp_path / "copy.db", store.keyring)


async def test_nothing_is_written_over(made: tuple[Path, Keyring, Header], tmp_path: Path) -> None:
    taken, keyring, _ = made
    before = (tmp_path / "old" / "store.db").read_bytes()
    with pytest.raises(FileExistsError):
        restore(taken, tmp_path / "old" / "store.db", keyring)
    assert (tmp_path / "old" / "store.db").read_bytes() == before


async def test_by_the_command_line(
    made: tuple[Path, Keyring, Header], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old" / "store.db"
    assert _tillgate("snapshot", str(tmp_path / "mine"), str(old)) == 0
    assert "store s1" in capsys.readouterr().out
    key = str(old.with_name(KEY_FILE))
    assert _tillgate("restore", str(tmp_path / "mine"), str(tmp_path / "new.db"), "--key", key) == 0
    assert _tillgate("verify", str(tmp_path / "new.db"), "--key", key) == 0
    capsys.readouterr()
    assert _tillgate("restore", str(tmp_path / "mine"), str(tmp_path / "new.db"), "--key", key) == 2
    assert "there already" in capsys.readouterr().err
    assert _tillgate("restore", key, str(tmp_path / "newer.db"), "--key", key) == 2
    assert "no snapshot" in capsys.readouterr().err


def _tillgate(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    chosen = parser.parse_args(["journal", *arguments])
    return int(chosen.run(chosen))


async def test_what_a_killed_snapshot_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    store = await opened(tmp_path / "store.db")
    await sold(store, 1, 3)
    left, used = tmp_path / ".snapshot-left", tmp_path / ".snapshot-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "store.db").write_bytes(b"half of it")
        os.utime(folder, (1, 1))
    another = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(another, fcntl.LOCK_EX)  # as one that runs beside holds its own
        await asyncio.to_thread(take, store.path, tmp_path / "a.snapshot", store.keyring, at_ms=AT_MS)
    finally:
        os.close(another)
    await store.close()
    assert [one.name for one in tmp_path.glob(".snapshot-*")] == [used.name]
