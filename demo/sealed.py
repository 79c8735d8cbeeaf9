"""Opens what a store sealed, for the count at the end: from the description of the form, not by the product's own code.

keyring   tgk1:<id>:<base64 of 32 bytes>, one a line
sealed    0xC1 | key id, 4 bytes | nonce, 12 bytes | AES-256-GCM ciphertext and tag
data key  HKDF-SHA256(master key, no salt, "tillgate " + purpose), 32 bytes
context   journal: facts|<epoch>|<class>|<seq>      till: ledger|<store>|<lane>|<sequence>
"""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

OF_JOURNAL = (
    "opened('journal', 'facts|' || (SELECT value FROM meta WHERE key = 'epoch') || '|' || class || '|' || seq, body)"
)
"""SQL: the body of a row of the journal's `facts`."""
OF_LEDGER = (
    "opened('till', 'ledger|' || (SELECT value FROM meta WHERE key = 'store') || '|'"
    " || (SELECT value FROM meta WHERE key = 'lane') || '|' || sequence, body)"
)
"""SQL: the body of a row of a till's `facts`."""


def teach(db: sqlite3.Connection, file: Path) -> None:
    """Give `db`, a connection to `file`, the SQL function ``opened(purpose, context, sealed)``; the key lies beside."""

    def opened(purpose: str, context: str, sealed: bytes) -> bytes:
        if sealed[:1] != b"\xc1":
            return sealed
        cipher = AESGCM(HKDF(SHA256(), 32, None, f"tillgate {purpose}".encode()).derive(masters[sealed[1:5].hex()]))
        return cipher.decrypt(sealed[5:17], sealed[17:], context.encode())

    masters: dict[str, bytes] = {}
    key_file = file.with_name("seal.key")
    if key_file.exists():
        for line in key_file.read_text().split():
            _, key_id, secret = line.split(":")
            masters[key_id] = base64.b64decode(secret)
    db.create_function("opened", 3, opened)
