"""`tillgate access key`: shown, rotated, found again, dropped; and what a technician is told who has a credential."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.access.broker_identity import open_authority
from edge.cli import main
from edge.commands.keys import needed
from edge.config import load
from edge.daemon import SCHEMAS, SEALED
from edge.journal.audit import verify
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.seal import CREDENTIAL, KEY_FILE, Keyring
from tests.edge.journal_facts import fact


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "store.toml"
    file.write_text(
        f'state_dir = "{tmp_path}"\n'
        '[store]\nid = "s1"\ncurrency = "EUR"\ntimezone = "Europe/Berlin"\n[[lanes]]\nid = "3"\n'
    )
    return file


def key(config: Path, command: str, *arguments: str) -> int:
    return main(["access", "key", command, *arguments, "--config", str(config)])


async def a_life(folder: Path, first: int, last: int) -> int:
    """Edge runs: takes some sales, seals anew what needs it; how many rows."""
    store = await Store.open(folder / "store.db", "s1", clock=Clock(), schemas=SCHEMAS, reserve_bytes=0)
    for number in range(first, last + 1):
        await store.record(fact("3", number))
    count = await store.reseal(SEALED, pause_s=0)
    await store.reseal_subjects()
    await store.close()
    return count


async def test_a_rotation_from_beginning_to_end(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_authority(load(config))
    assert await a_life(tmp_path, 1, 20) == 0
    old = Keyring.find(tmp_path).current.id
    assert key(config, "show") == 0
    shown = capsys.readouterr().out
    assert f"{old}  in use  needed by: access/authority.copy.json, access/authority.json, store.db" in shown
    assert "not a stolen box" in shown

    assert key(config, "rotate") == 0
    assert "restart" in capsys.readouterr().out
    new = Keyring.find(tmp_path).current.id
    assert [one.id for one in Keyring.find(tmp_path).keys] == [new, old]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert key(config, "drop", old) != 0
    assert "is needed by access/authority" in capsys.readouterr().err
    assert key(config, "drop", new) != 0

    assert await a_life(tmp_path, 21, 25) == 20
    assert needed(tmp_path) == {new: ["store.db"], old: ["access/authority.copy.json", "access/authority.json"]}
    assert key(config, "drop", old) != 0
    assert open_authority(load(config)).fault is None, "as edge does at its start: it seals its key anew"
    assert needed(tmp_path) == {new: ["access/authority.copy.json", "access/authority.json", "store.db"]}
    assert key(config, "drop", old) == 0
    assert [one.id for one in Keyring.find(tmp_path).keys] == [new]
    assert await a_life(tmp_path, 26, 26) == 0
    assert verify(tmp_path / "store.db").ok


async def test_a_lost_keyring_that_is_found_is_added(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await a_life(tmp_path, 1, 5)
    found = tmp_path / "found"
    (tmp_path / KEY_FILE).rename(found)
    lost = Keyring.from_text(found.read_text()).current.id
    await a_life(tmp_path, 6, 6)
    assert key(config, "show") == 0
    assert f"{lost}  MISSING" in capsys.readouterr().out
    assert key(config, "add", str(found)) == 0
    capsys.readouterr()
    assert key(config, "show") == 0
    assert "MISSING" not in capsys.readouterr().out
    assert key(config, "add", str(config)) != 0
    assert "keyring cannot be used" in capsys.readouterr().err


async def test_with_a_credential_it_says_what_root_has_to_do(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / CREDENTIAL).write_text(Keyring.new().text())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert key(config, "rotate") == 1
    told = capsys.readouterr().out
    assert "systemd-creds encrypt --with-key=auto --name=tillgate.key" in told
    assert not (tmp_path / KEY_FILE).exists()
    assert key(config, "show") == 0
    assert "the systemd credential" in capsys.readouterr().out


def test_a_fresh_key_goes_to_a_pipe() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "edge.cli", "access", "key", "new"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert len(Keyring.from_text(said).keys) == 1


@pytest.mark.skipif(shutil.which("systemd-creds") is None, reason="systemd's program is not on this machine")
async def test_through_systemds_own_program_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    """File to credential, then a rotation by the commands that are printed; facts stay readable all along."""
    await a_life(tmp_path, 1, 5)
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "host.secret"))
    sealed, plain = tmp_path / CREDENTIAL, tmp_path / "credentials" / CREDENTIAL
    plain.parent.mkdir()
    file = tmp_path / KEY_FILE
    if _creds("encrypt", "--with-key=host", str(file), str(sealed)).returncode:
        pytest.skip("systemd-creds has no key of this host to encrypt with")
    assert file.read_bytes() not in sealed.read_bytes()
    file.unlink()
    for rotations in range(2):
        plain.write_bytes(_creds("decrypt", str(sealed), "-").stdout)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(plain.parent))
        keyring = Keyring.find(tmp_path)
        assert (keyring.origin, len(keyring.keys)) == ("credential", 1 + rotations)
        assert await a_life(tmp_path, 6 + rotations, 6 + rotations) == 5 * rotations + rotations
        assert verify(tmp_path / "store.db", keyring).ok
        new = subprocess.run(
            [sys.executable, "-m", "edge.cli", "access", "key", "new"], check=True, capture_output=True, timeout=60
        ).stdout
        both = new + _creds("decrypt", str(sealed), "-").stdout
        assert _creds("encrypt", "--with-key=host", "-", str(sealed), given=both).returncode == 0
    assert not list(tmp_path.glob("store.damaged-*"))


def _creds(command: str, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = ["systemd-creds", command, f"--name={CREDENTIAL}", *arguments]
    return subprocess.run(words, input=given, capture_output=True, timeout=60)
