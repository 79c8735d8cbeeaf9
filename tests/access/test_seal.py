"""Keyring and seal: published vectors, every byte changed, other contexts and keys, key files as they are found."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge import seal
from edge.seal import KEY_FILE, Keyring, MasterKey, NoKey, Seal, Unsealable, derive, is_sealed, sealed_by, write_secret

CONTEXT = b"facts|epoch|transaction|17"


def test_the_data_key_is_hkdf_sha256() -> None:
    """RFC 5869, A.3: SHA-256 with zero-length salt and info."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert derive(b"\x0b" * 22, b"", 42).hex() == expected


def test_the_cipher_is_aes_256_gcm() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation" (as submitted to NIST), test case 16: 256 bits, AAD."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce, aad = bytes.fromhex("cafebabefacedbaddecaf888"), bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
    assert AESGCM(key).encrypt(nonce, plain, aad) == sealed


def test_the_form_is_as_written() -> None:
    """Opened here by the primitives alone: version, key id, nonce, ciphertext and tag; key by HKDF from the purpose."""
    ring = Keyring.new()
    sealed = Seal(ring, "journal").seal(b"a sale", CONTEXT)
    assert (sealed[:1], sealed[1:5].hex(), len(sealed)) == (b"\xc1", ring.current.id, 6 + seal.OVERHEAD_BYTES)
    data_key = derive(ring.current.secret, b"tillgate journal")
    assert AESGCM(data_key).decrypt(sealed[5:17], sealed[17:], CONTEXT) == b"a sale"


def test_every_changed_byte_is_found() -> None:
    box = Seal(Keyring.new(), "journal")
    sealed = box.seal(b"what lane 3 sold", CONTEXT)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0x01
        with pytest.raises(Unsealable):
            box.open(bytes(changed), CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            box.open(sealed[:length], CONTEXT)
    with pytest.raises(Unsealable):
        box.open(sealed + b"\0", CONTEXT)
    assert box.open(sealed, CONTEXT) == b"what lane 3 sold"


def test_a_sealed_thing_cannot_be_moved_nor_passed_off_as_another_kind() -> None:
    ring = Keyring.new()
    sealed = Seal(ring, "journal").seal(b"x", CONTEXT)
    with pytest.raises(Unsealable) as moved:
        Seal(ring, "journal").open(sealed, b"facts|epoch|transaction|18")
    assert not moved.value.missing
    with pytest.raises(Unsealable):
        Seal(ring, "print").open(sealed, CONTEXT)


def test_the_same_twice_looks_different() -> None:
    box = Seal(Keyring.new(), "journal")
    assert len({box.seal(b"same", CONTEXT) for _ in range(100)}) == 100


def test_another_stores_key_says_which_key_is_missing() -> None:
    ours, theirs = Seal(Keyring.new(), "journal"), Seal(Keyring.new(), "journal")
    with pytest.raises(Unsealable, match=ours.key_id) as error:
        theirs.open(ours.seal(b"x", CONTEXT), CONTEXT)
    assert (error.value.missing, error.value.key_id) == (True, ours.key_id)


def test_plain_text_of_earlier_versions_is_told_apart() -> None:
    sealed = Seal(Keyring.new(), "journal").seal(b"", b"")
    assert is_sealed(sealed)
    for plain in (b"", b'{"specversion":"1.0"}' * 9, "é".encode() * 40, b"\xc1 too short"):
        assert not is_sealed(plain)
        assert sealed_by(plain) is None


def test_rotation_keeps_what_was_sealed_before() -> None:
    old = Keyring.new()
    sealed = Seal(old, "journal").seal(b"before", CONTEXT)
    both = old.with_new_key()
    assert Seal(both, "journal").open(sealed, CONTEXT) == b"before"
    after = Seal(both, "journal").seal(b"after", CONTEXT)
    assert sealed_by(after) == both.current.id != old.current.id == sealed_by(sealed)
    only_new = both.without(old.current.id)
    assert Seal(only_new, "journal").open(after, CONTEXT) == b"after"
    with pytest.raises(Unsealable):
        Seal(only_new, "journal").open(sealed, CONTEXT)


def test_secrets_are_not_shown() -> None:
    key = MasterKey.new()
    assert repr(key.secret) not in repr(key)
    assert key.line() not in repr(Keyring((key,)))


# -- the key file --------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    made = Keyring.find(tmp_path)
    file = tmp_path / KEY_FILE
    assert (made.origin, made.path, made.faults, stat.S_IMODE(file.stat().st_mode)) == ("file", file, (), 0o600)
    assert Keyring.find(tmp_path).keys == made.keys == Keyring.from_text(file.read_text()).keys
    assert Keyring.find(tmp_path, create=False).keys == made.keys
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    ids = {process.communicate(timeout=60)[0].strip() for process in started}
    assert ids == {Keyring.find(tmp_path).current.id}


def test_a_key_that_others_could_read_is_closed_again_and_told(tmp_path: Path) -> None:
    made = Keyring.find(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    found = Keyring.find(tmp_path)
    assert found.keys == made.keys
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    (fault,) = found.faults
    assert "0644" in fault
    assert "rotate" in fault
    assert Keyring.find(tmp_path).faults == ()


@pytest.mark.parametrize("left", [0, 10, 30, 50])
def test_a_cut_off_key_is_set_aside_and_a_new_one_goes_on(tmp_path: Path, left: int) -> None:
    made = Keyring.find(tmp_path)
    file = tmp_path / KEY_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    found = Keyring.find(tmp_path)
    assert found.current.id != made.current.id
    assert len(found.faults) == 1
    (aside,) = tmp_path.glob(f"{KEY_FILE}.spoilt-*")
    assert aside.read_bytes() == whole[:left]
    assert Keyring.find(tmp_path).keys == found.keys


def test_of_a_spoilt_keyring_the_good_keys_still_open(tmp_path: Path) -> None:
    older, newer = MasterKey.new(), MasterKey.new()
    line = newer.line()
    changed = line[:20] + ("A" if line[20] != "A" else "B") + line[21:]
    write_secret(tmp_path / KEY_FILE, f"{changed}\n{older.line()}\n".encode())
    found = Keyring.find(tmp_path)
    assert [key.id for key in found.keys][1:] == [older.id]
    assert found.current.id not in (older.id, newer.id)


def test_no_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match="gateway's user"):
        Keyring.find(tmp_path, create=False)
    with pytest.raises(NoKey, match="see to the disk"):
        Keyring.find(tmp_path / "not there")
    for text in ("", "tgk1:00000000:AAAA\n", "rubbish"):
        with pytest.raises(NoKey):
            Keyring.from_text(text)


ASK = """
import sys, pathlib
from edge.seal import Keyring, NoKey
try:
    print(Keyring.find(pathlib.Path(sys.argv[1])).current.id)
except NoKey as error:
    print(error)
"""


@pytest.mark.parametrize("rights", [0o600, 0o644])
def test_a_disk_that_cannot_be_written_still_gives_its_key(tmp_path: Path, rights: int) -> None:
    made = Keyring.find(tmp_path)
    (tmp_path / KEY_FILE).chmod(rights)
    assert on_a_read_only_disk(tmp_path) == made.current.id
    (tmp_path / KEY_FILE).unlink()
    assert "see to the disk" in on_a_read_only_disk(tmp_path)


def on_a_read_only_disk(directory: Path) -> str:
    """What a process says that sees `directory` mounted read-only, in a mount namespace of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace of our own is to be had here")
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(directory), sys.executable, ASK]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


# -- the credential ------------------------------------------------------------------------------------


@pytest.fixture
def credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where systemd would put it; nothing there yet."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory / seal.CREDENTIAL


def test_the_credential_comes_first_and_leaves_no_file(tmp_path: Path, credential: Path) -> None:
    ring = Keyring.new()
    credential.write_text(ring.text())
    found = Keyring.find(tmp_path)
    assert (found.origin, found.keys, found.path) == ("credential", ring.keys, credential)
    assert not (tmp_path / KEY_FILE).exists()


def test_what_the_file_sealed_is_opened_after_the_move_to_a_credential(tmp_path: Path, credential: Path) -> None:
    file = Keyring.find(tmp_path)
    credential.write_text(Keyring.new().text())
    found = Keyring.find(tmp_path)
    assert found.origin == "credential"
    assert found.keys[1:] == file.keys


def test_a_credential_that_vanished_or_is_spoilt_does_not_stop_the_store(tmp_path: Path, credential: Path) -> None:
    ring = Keyring.new()
    vanished = Keyring.find(tmp_path)
    assert (vanished.origin, vanished.faults) == ("file", ())
    credential.write_text(ring.text()[:20])
    spoilt = Keyring.find(tmp_path)
    assert (spoilt.origin, spoilt.keys) == ("file", vanished.keys)
    assert "systemd-creds" in spoilt.faults[0]
    credential.write_text(ring.text())
    back = Keyring.find(tmp_path)
    assert (back.origin, back.current, back.keys[1:]) == ("credential", ring.current, vanished.keys)
