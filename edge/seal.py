"""Sealing what lies on the disk: the store's master keys, and the data keys that are made of them.

Strategy: one small text, the keyring, holds the store's master keys; the first is current, the others still open what
they sealed. For each purpose ("journal", "authority", ...) a data key of its own is derived, so that a sealed thing
can never be passed off as one of another kind, and its context says which one of its kind it is, so that it cannot be
moved either. The keyring comes from a systemd credential, which a TPM holds where there is one; else it is a file
beside the data, which guards backups and copies of single files, not a stolen disk.

A key that is missing or spoilt stops no process: what can be mended is mended and told in `Keyring.faults`; what was
sealed by a key that is not there stays as it is until the key is back.

Keyring, one line each:  ``tgk1:<id, 8 hex digits>:<base64 of 32 bytes>``
Sealed:                  ``0xC1 | id of the master key, 4 bytes | nonce, 12 bytes | ciphertext | tag, 16 bytes``

0xC1 begins no UTF-8 text, so that what an earlier version wrote in plain is told from what is sealed.

Sources: AES-256-GCM with random 96-bit nonces, NIST SP 800-38D, 8.2.2 (at most 2^32 of them under one key: a store that
seals ten times a second needs thirteen years; `tillgate access key rotate` begins anew); HKDF-SHA256, RFC 5869;
systemd.exec(5), LoadCredentialEncrypted=, and systemd-creds(1).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hmac
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CREDENTIAL = "tillgate.key"
"""The name under which systemd hands over the keyring."""
KEY_FILE = "seal.key"
"""The keyring's file in the state directory, where there is no credential."""

KEY_BYTES = 32
ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = 1 + ID_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer the sealed is than the plain."""

_VERSION = b"\xc1"
_HEAD_BYTES = 1 + ID_BYTES + NONCE_BYTES
_LINE = "tgk1"
_FILE_LIMIT_BYTES = 64 * 1024

Origin = Literal["credential", "file", "memory"]


class NoKey(Exception):
    """There is no keyring and none can be made; the text says what a person should do."""


class Unsealable(Exception):
    """It cannot be opened: `missing` by a key that this keyring has not got, else because it was changed or moved."""

    def __init__(self, reason: str, *, key_id: str | None = None, missing: bool = False) -> None:
        super().__init__(reason)
        self.key_id = key_id
        self.missing = missing


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One master key; its id is derived from it, so that a mistyped line is found."""

    secret: bytes = field(repr=False)
    id: str = field(init=False)
    """8 hex digits."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", derive(self.secret, b"tillgate key id", ID_BYTES).hex())

    def line(self) -> str:
        """As it stands in a keyring."""
        return f"{_LINE}:{self.id}:{base64.b64encode(self.secret).decode()}"

    @classmethod
    def new(cls) -> MasterKey:
        """A key from the kernel's random numbers."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_line(cls, line: str) -> MasterKey:
        """Raises ValueError, without the secret in its text."""
        kind, _, rest = line.strip().partition(":")
        key_id, _, encoded = rest.partition(":")
        try:
            secret = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if kind != _LINE or len(secret) != KEY_BYTES:
            raise ValueError(f"a line is not {_LINE}:<id>:<base64 of {KEY_BYTES} bytes>")
        key = cls(secret)
        if not hmac.compare_digest(key.id.encode(), key_id.encode()):
            raise ValueError(f"key {key_id[:8]!r} is not what its id says: a character was changed or is missing")
        return key


def derive(secret: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt: `secret` is uniformly random already."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, None, info).derive(secret)


class Keyring:
    """The store's master keys: the first seals, all of them open. `faults`: what a person should know of it."""

    def __init__(
        self,
        keys: tuple[MasterKey, ...],
        origin: Origin = "memory",
        path: Path | None = None,
        *,
        faults: tuple[str, ...] = (),
    ) -> None:
        if not keys:
            raise NoKey("the keyring holds no key")
        self.keys = keys
        self.origin = origin
        self.path = path
        self.faults = faults
        self._by_id: Mapping[bytes, MasterKey] = {bytes.fromhex(key.id): key for key in keys}

    @classmethod
    def new(cls) -> Keyring:
        """One fresh key, kept nowhere."""
        return cls((MasterKey.new(),))

    @classmethod
    def from_text(cls, text: str) -> Keyring:
        """As `text` gives it. Raises NoKey for a text with no key or a spoilt line."""
        keys, faults = _parsed(text)
        if faults:
            raise NoKey(f"the keyring cannot be used: {faults[0]}")
        return cls(keys)

    @classmethod
    def find(cls, state_dir: Path, *, create: bool = True) -> Keyring:
        """The keyring of the store whose files are in `state_dir`; made there when there is none and `create`.

        Several processes may ask at once. A key file with wide rights gets 0600 again, a spoilt one is set aside and
        what is left of it goes on under a new key: both are told in `faults`, as is a credential that cannot be used.
        Raises NoKey when nothing is found and nothing can be made.
        """
        credential, faults = _from_credential()
        file = state_dir / KEY_FILE
        if credential:
            # What was sealed before there was a credential, or while it was away, is opened by the file's keys.
            older = _peeked(file) if file.exists() else ()
            return cls(_distinct(credential + older), "credential", _credential_path(), faults=faults)
        keys, more = _from_file(state_dir, file, create=create)
        return cls(keys, "file", file, faults=faults + more)

    @property
    def current(self) -> MasterKey:
        """The one that seals."""
        return self.keys[0]

    def get(self, key_id: bytes) -> MasterKey | None:
        """The key with this id (4 bytes), if it is here."""
        return self._by_id.get(key_id)

    def text(self) -> str:
        """As it is kept. A secret."""
        return "".join(f"{key.line()}\n" for key in self.keys)

    def with_new_key(self) -> Keyring:
        """A fresh key first, the others behind it."""
        return Keyring((MasterKey.new(), *self.keys), self.origin, self.path)

    def with_older(self, keys: tuple[MasterKey, ...]) -> Keyring:
        """These too, behind what is there."""
        return Keyring(_distinct(self.keys + keys), self.origin, self.path)

    def without(self, key_id: str) -> Keyring:
        """All but this one."""
        return Keyring(tuple(key for key in self.keys if key.id != key_id), self.origin, self.path)


class Seal:
    """Seals and opens things of one purpose. Safe to use from several threads."""

    def __init__(self, keyring: Keyring, purpose: str) -> None:
        from cryptography.exceptions import InvalidTag

        self.keyring = keyring
        self.purpose = purpose
        self._info = b"tillgate " + purpose.encode()
        self._ciphers: dict[bytes, AESGCM] = {}
        self._changed = InvalidTag
        current = bytes.fromhex(keyring.current.id)
        self._current = self._cipher(current)
        self._head = _VERSION + current

    @property
    def key_id(self) -> str:
        """Of the key that seals now: 8 hex digits."""
        return self.keyring.current.id

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """`plain` sealed, `OVERHEAD_BYTES` longer. `context` says which thing it is: not kept, but it has to match."""
        nonce = os.urandom(NONCE_BYTES)
        return self._head + nonce + self._current.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed under this context. Raises Unsealable."""
        if not is_sealed(sealed):
            raise Unsealable("this is not sealed, or cut off")
        key_id = sealed[1 : 1 + ID_BYTES]
        cipher = self._ciphers.get(key_id) or self._cipher(key_id)
        try:
            return cipher.decrypt(sealed[1 + ID_BYTES : _HEAD_BYTES], sealed[_HEAD_BYTES:], context)
        except self._changed:
            raise Unsealable(
                "it was changed, or belongs elsewhere: the seal does not fit", key_id=key_id.hex()
            ) from None

    def derived(self, key_id: str, salt: bytes) -> bytes:
        """32 bytes of key for one file that is sealed in pieces. Raises Unsealable when the key is missing."""
        return derive(self._master(bytes.fromhex(key_id)).secret, self._info + b" " + salt)

    def _master(self, key_id: bytes) -> MasterKey:
        master = self.keyring.get(key_id)
        if master is None:
            raise Unsealable(
                f"it is sealed with key {key_id.hex()}, which is not in the keyring", key_id=key_id.hex(), missing=True
            )
        return master

    def _cipher(self, key_id: bytes) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cipher = self._ciphers[key_id] = AESGCM(derive(self._master(key_id).secret, self._info))
        return cipher


def change_file(state_dir: Path, change: Callable[[Keyring], Keyring]) -> Keyring:
    """Replace the key file of `state_dir` by what `change` makes of it, whole or not at all. NoKey, OSError."""
    file = state_dir / KEY_FILE
    with _locked(state_dir):
        keys, faults = _mended(file)
        changed = change(Keyring(keys, "file", file, faults=faults))
        write_secret(file, changed.text().encode())
    return changed


def is_sealed(data: bytes) -> bool:
    """Whether this has the form of something sealed."""
    return data[:1] == _VERSION and len(data) >= OVERHEAD_BYTES


def sealed_by(data: bytes) -> str | None:
    """The id of the key that sealed this, 8 hex digits; None when it is plain."""
    return data[1 : 1 + ID_BYTES].hex() if is_sealed(data) else None


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_if_changed(path: Path, data: bytes) -> bool:
    """`write_secret`, unless it stands there already; whether it was written. Raises OSError.

    What is there and cannot be read gives way; a folder in the place of the file is set aside.
    """
    try:
        if path.read_bytes() == data:
            return False
    except IsADirectoryError:
        path.rename(path.with_name(f"{path.name}.aside-{os.urandom(4).hex()}"))
    except OSError:
        pass
    write_secret(path, data)
    return True


# -- where the keyring is ------------------------------------------------------------------------------


def _credential_path() -> Path | None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) / CREDENTIAL if directory else None


def _from_credential() -> tuple[tuple[MasterKey, ...], tuple[str, ...]]:
    path = _credential_path()
    if path is None or not path.exists():
        return (), ()
    try:
        keys, faults = _parsed(_read(path))
    except OSError as error:
        keys, faults = (), (error.strerror or str(error),)
    told = tuple(
        f"the credential {CREDENTIAL} is spoilt ({fault}): encrypt the keyring anew with systemd-creds and restart"
        for fault in faults
    )
    return keys, told


def _from_file(state_dir: Path, file: Path, *, create: bool) -> tuple[tuple[MasterKey, ...], tuple[str, ...]]:
    """The keys of `file`, mended where it has to be, under a lock: edge, bridge and broker start at the same moment."""
    if not create:
        keys = _peeked(file)
        if not keys:
            raise NoKey(
                f"{file} does not hold the store's key or may not be read: run this as the gateway's user, with a"
                f" systemd credential by systemd-run --pipe -p LoadCredentialEncrypted={CREDENTIAL}"
            )
        return keys, ()
    try:
        with _locked(state_dir):
            return _mended(file)
    except OSError as error:
        keys = _peeked(file)
        if keys:
            return keys, ()
        raise NoKey(f"no key in {file} and none can be written there ({error.strerror}): see to the disk") from None


def _mended(file: Path) -> tuple[tuple[MasterKey, ...], tuple[str, ...]]:
    try:
        mode = file.stat().st_mode & 0o777
    except FileNotFoundError:
        fresh = MasterKey.new()
        write_secret(file, Keyring((fresh,)).text().encode())
        return (fresh,), ()
    told: tuple[str, ...] = ()
    if mode != 0o600:
        file.chmod(0o600)  # also where we might not read it ourselves: that makes a key no worse
    try:
        keys, faults = _parsed(_read(file))
    except OSError as error:
        keys, faults = (), (error.strerror or str(error),)
    if mode & 0o077:
        told = (
            f"{file} could be read by others (its rights were {mode:04o}) and is 0600 again:"
            " whoever copied it can read this store's files; `tillgate access key rotate` makes a new key",
        )
    if faults:
        aside = file.with_name(
            f"{KEY_FILE}.spoilt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(2).hex()}"
        )
        file.rename(aside)
        keys = (MasterKey.new(), *keys)
        write_secret(file, Keyring(keys).text().encode())
        told += (
            f"{file} was spoilt ({faults[0]}) and is set aside as {aside.name}; a new key is in use."
            " If there is a copy of the old keyring, add it: tillgate access key add FILE",
        )
    return keys, told


def _peeked(file: Path) -> tuple[MasterKey, ...]:
    """What is readable there, mending nothing."""
    try:
        return _parsed(_read(file))[0]
    except OSError:
        return ()


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_FILE_LIMIT_BYTES).decode("utf-8", "replace")


def _parsed(text: str) -> tuple[tuple[MasterKey, ...], tuple[str, ...]]:
    keys: list[MasterKey] = []
    faults: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(MasterKey.from_line(line))
        except ValueError as error:
            faults.append(str(error))
    if not keys and not faults:
        faults.append("it is empty")
    return _distinct(tuple(keys)), tuple(faults)


def _distinct(keys: tuple[MasterKey, ...]) -> tuple[MasterKey, ...]:
    return tuple(dict.fromkeys(keys))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
