"""`tillgate access key ...`: the master keys that seal what lies on this box's disk."""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.desk import NoGateway, Refused, ask, log_in_argument
from edge.seal import CREDENTIAL, KEY_FILE, Keyring, MasterKey, NoKey, change_file, sealed_by
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from edge.config import StoreConfig

ASK_S = 10.0

_SEALED_TEXT = re.compile(r'"(w[A-Za-z0-9+/]{40,}={0,2})"')
"""0xC1 first, in base64."""

STORED = f"/etc/credstore.encrypted/{CREDENTIAL}"

_EPILOG = f"""
The key comes from the systemd credential {CREDENTIAL} if the unit has one, else from {KEY_FILE} in the state
directory. A file guards backups and single files that go astray; against a stolen box it takes a credential, which
systemd binds to the TPM where there is one, else to this installation. As root:

  systemd-creds encrypt --with-key=auto --name={CREDENTIAL} /var/lib/tillgate/{KEY_FILE} {STORED}
  (the units have LoadCredentialEncrypted={CREDENTIAL}); restart tillgate.target, look at `tillgate access key show`,
  keep a copy of {KEY_FILE} in a safe place off the box, then remove it from the box: shred -u

Without a copy of the keyring no backup opens on another box.

examples:
  tillgate access key show          which keys, where from, what needs them
  tillgate access key rotate        a new key in use; what the old one sealed is sealed anew by and by
  tillgate access key add FILE      a key that was lost and is found: what it sealed is read again
  tillgate access key drop 1a2b3c4d an old key that nothing needs any more
"""

_ROTATE_CREDENTIAL = f"""The keys come from the systemd credential {CREDENTIAL}, which only root may replace. As root:

  cd /etc/credstore.encrypted
  {{ tillgate access key new | cat; systemd-creds decrypt --name={CREDENTIAL} {CREDENTIAL} -; }} \\
    | systemd-creds encrypt --with-key=auto --name={CREDENTIAL} - {CREDENTIAL}.new
  mv {CREDENTIAL}.new {CREDENTIAL}
  systemctl restart tillgate.target

The first line of the keyring is the key in use; the others open what they sealed.
"""


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``key`` and its own commands below `tillgate access`."""
    key = subparsers.add_parser(
        "key",
        help="the keys that seal what lies on this disk",
        description="Master keys of this store: the journal's bodies, receipts, people and the authority's key are"
        " sealed by keys made of them. Run it as the gateway's user.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = key.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run, what in (
        ("show", _show, "which keys, where from, and what needs them"),
        ("rotate", _rotate, "put a new key in use"),
        ("add", _add, "add keys that were lost"),
        ("drop", _drop, "forget an old key that nothing needs"),
    ):
        command = commands.add_parser(name, help=what)
        if name != "show":
            log_in_argument(command)
        config_argument(command)
        if name == "add":
            command.add_argument("file", type=Path, metavar="FILE", help="a keyring")
        if name == "drop":
            command.add_argument("key", metavar="KEY", help="its id, 8 hex digits")
        command.set_defaults(run=run)
    new = commands.add_parser("new", help="write a fresh key to a pipe, for a systemd credential")
    new.set_defaults(run=_new)


def _show(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    try:
        keyring = Keyring.find(config.state_dir, create=False)
    except NoKey as error:
        return complain(str(error))
    where = f"{keyring.path}: beside the data; it guards backups and single files, not a stolen box"
    if keyring.origin == "credential":
        where = f"the systemd credential {CREDENTIAL}"
    _say(f"keys from {where}")
    needs = needed(config.state_dir)
    for number, key in enumerate(keyring.keys):
        by = ", ".join(needs.pop(key.id, [])) or "nothing on this disk"
        _say(f"  {key.id}  {'in use' if number == 0 else 'older '}  needed by: {by}")
    for key_id, by_whom in sorted(needs.items()):
        _say(f"  {key_id}  MISSING needed by: {', '.join(by_whom)}: tillgate access key add FILE")
    if len(keyring.keys) > 1:
        _say("snapshots that an older key sealed need it too: drop it when they are gone, or keep a copy elsewhere")
    return 0


def _rotate(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    try:
        if Keyring.find(config.state_dir, create=False).origin == "credential":
            _say(_ROTATE_CREDENTIAL)
            return 1
        if not _let(config, chosen, "rotate"):
            return 1
        keyring = change_file(config.state_dir, Keyring.with_new_key)
    except NoKey as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"nothing is changed: {config.state_dir}: {error.strerror or error}")
    _say(
        f"{keyring.current.id} is the new key, in use from edge's next start: systemctl restart tillgate-edge"
        f" (tills sell on meanwhile). What {keyring.keys[1].id} sealed is sealed anew after that;"
        f" see `tillgate access key show`. Keep a copy of {keyring.path} off this box."
    )
    return 0


def _add(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    try:
        found = Keyring.from_text(chosen.file.read_text(encoding="utf-8"))
        if not _let(config, chosen, f"add {', '.join(key.id for key in found.keys)}"[:100]):
            return 1
        keyring = change_file(config.state_dir, lambda now: now.with_older(found.keys))
    except (NoKey, OSError, UnicodeDecodeError) as error:
        return complain(str(error))
    _say(f"{len(keyring.keys)} keys now; what {', '.join(key.id for key in found.keys)} sealed is read again")
    return 0


def _drop(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    by = needed(config.state_dir).get(chosen.key, [])
    if by:
        return complain(f"{chosen.key} is needed by {', '.join(by)}: nothing was changed")
    try:
        now = Keyring.find(config.state_dir, create=False)
        if chosen.key == now.current.id:
            return complain(f"{chosen.key} is in use: nothing was changed; `rotate` puts another in its place")
        if chosen.key not in {key.id for key in now.keys}:
            return complain(f"there is no key {chosen.key}: `tillgate access key show`")
        if now.origin == "credential":
            return complain(f"it is in the systemd credential: encrypt a keyring without the line of {chosen.key}")
        if not _let(config, chosen, f"drop {chosen.key}"):
            return 1
        change_file(config.state_dir, lambda keyring: keyring.without(chosen.key))
    except (NoKey, OSError) as error:
        return complain(str(error))
    _say(f"{chosen.key} is forgotten")
    return 0


def _new(chosen: argparse.Namespace) -> int:
    if sys.stdout.isatty():
        return complain("a key is not for the screen: give it to a pipe, as `tillgate access key rotate` tells")
    _say(MasterKey.new().line())
    return 0


def _let(config: StoreConfig, chosen: argparse.Namespace, change: str) -> bool:
    """Whether whoever asks may change the keyring; where no gateway runs, nobody is there to ask or to record it."""
    if not os.path.exists(config.broker_socket):
        return True
    try:
        asyncio.run(ask(config, "key.change", {"change": change}, ASK_S, without_log_in=chosen.without_log_in))
    except (NoGateway, TimeoutError):
        sys.stderr.write("no gateway answers that could record who did this\n")
    except Refused as error:
        complain(f"{error.code}: {error}")
        return False
    return True


def needed(state_dir: Path) -> dict[str, list[str]]:
    """Key id -> the files that something sealed by it lies in, as far as they can be read."""
    found: dict[str, list[str]] = {}
    for file in sorted((state_dir / "access").glob("*.json")):
        for key_id in sorted(_of_text(file)):
            found.setdefault(key_id, []).append(f"access/{file.name}")
    for file in sorted(state_dir.glob("store*.db")):
        for key_id in sorted(_of_store(file)):
            found.setdefault(key_id, []).append(file.name)
    return found


def _of_text(file: Path) -> set[str]:
    """The keys of what stands sealed in a text, in base64."""
    words = (base64.b64decode(word + "==") for word in _SEALED_TEXT.findall(file.read_text("utf-8", "replace")))
    return {key_id for key_id in map(sealed_by, words) if key_id is not None}


def _of_store(file: Path) -> set[str]:
    from edge.journal.reader import NoJournal, connect
    from edge.journal.sealing import PLAIN, keys_of

    try:
        with closing(connect(file, may_be_copy=True)) as db:
            listed = set().union(*keys_of(db).values()) - {PLAIN}
            return listed | {key_id for sql in _blobs(db) for (key_id,) in db.execute(sql)}
    except (NoJournal, sqlite3.Error) as error:
        sys.stderr.write(f"{file} cannot be read: {error}\n")
        return set()


def _blobs(db: sqlite3.Connection) -> Iterator[str]:
    """Queries for the keys of what else is sealed: the tables that `seal_keys` does not speak for are small."""
    spoken_for = {"facts", "salvaged", "print_jobs", "requests", "quarantine"}
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table in spoken_for:
            continue
        columns = db.execute("SELECT name FROM pragma_table_info(?) WHERE type = 'BLOB'", (table,)).fetchall()
        for (column,) in columns:
            yield (
                f"SELECT DISTINCT lower(hex(substr({column}, 2, 4))) FROM {table}"  # noqa: S608  # names of our schema
                f" WHERE substr({column}, 1, 1) = x'c1' AND length({column}) >= 33"
            )


def _say(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")
