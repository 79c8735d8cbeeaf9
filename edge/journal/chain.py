"""The hash chain over the journal's bodies, and the digest that tells a repeat from a conflict.

Strategy: one chain per epoch and class. It starts from a hash of the epoch's and the class's names, so that a row
cannot be moved to another chain, and each link covers the previous hash and the whole body as it is stored. The body
carries sequence, times and clock trust, so whoever holds the bodies in order (HQ, a verifier) needs nothing else.
"""

from __future__ import annotations

import hashlib

HASH_BYTES = 32
DIGEST_BYTES = 16


def genesis(epoch: str, fact_class: str) -> bytes:
    """The 32 bytes that stand before sequence 1 of this class in this epoch."""
    return hashlib.sha256(f"tillgate.journal.v1\0{epoch}\0{fact_class}".encode()).digest()


def link(previous: bytes, body: bytes) -> bytes:
    """The hash of a row: SHA-256 over the previous row's hash (32 bytes) and this row's body as stored."""
    return hashlib.sha256(previous + body).digest()


def digest(content: bytes) -> bytes:
    """16 bytes that stand for the content as the till sent it; equal digests mean the same fact."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]
