"""Passwords: the hash is the RFC's, its parameters are renewed, guessable ones are refused."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.access import passwords
from edge.access.passwords import Hasher, TooBusy, complaint, fits, hashed, outdated


def test_argon2id_is_that_of_rfc_9106() -> None:
    """RFC 9106, 5.3."""
    tag = Argon2id(
        salt=bytes([2]) * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=bytes([4]) * 12,
        secret=bytes([3]) * 8,
    ).derive(bytes([1]) * 32)  # fmt: skip
    assert tag.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


def test_a_hash_fits_its_password_only_and_carries_its_parameters() -> None:
    one, other = hashed("green Thursday"), hashed("green Thursday")
    assert one != other
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert fits("green Thursday", one)
    assert not fits("green thursday", one)
    assert not fits("green Thursday", None)


def test_the_same_letters_typed_another_way_are_the_same_password() -> None:
    """NFKC: an umlaut as one character or as two, full-width digits of a Japanese keyboard."""
    assert fits("Bu\u0308cher 42 Regale", hashed("B\u00fccher \uff14\uff12 Regale"))


def test_a_hash_with_other_parameters_is_outdated() -> None:
    weak = Argon2id(salt=b"0" * 16, length=32, iterations=1, lanes=1, memory_cost=8192).derive_phc_encoded(b"x")
    assert outdated(weak)
    assert not outdated(hashed("x"))


@pytest.mark.parametrize(
    "password",
    [
        "123456", "654321", "111111", "121212", "123123", "abcabcabc", "password", "Passwort1!", "qwertz123",
        "asdfghjkl", "Kasse2024", "olga1234", "letmein!!", "aaaaaaaaaaaa", "abcdefghijkl", "Tillgate.1", "147258",
    ],
)  # fmt: skip
def test_what_everybody_tries_first_is_refused(password: str) -> None:
    assert complaint(password, 6, ("olga", "Tillgate")) is not None


@pytest.mark.parametrize(
    "password",
    [
        "482617",
        "green Thursday",
        "zwei nasse Handschuhe",
        "olga fährt im Mai",
        "\u65e5\u672c\u8a9e\u306e\u5408\u8a00\u8449",
    ],
)
def test_others_are_taken_whatever_characters_they_have(password: str) -> None:
    assert complaint(password, 6, ("olga",)) is None


def test_length_is_what_counts() -> None:
    assert "at least 12" in str(complaint("Riga in May", 12))
    assert complaint("Riga in May!", 12) is None
    assert "at most" in str(complaint("ab cd " * 30, 12))


async def test_checks_wait_their_turn_and_not_too_many_of_them() -> None:
    hasher = Hasher()
    try:
        some = [asyncio.create_task(hasher.run(lambda: hashed("x"))) for _ in range(passwords.WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy):
            await hasher.run(lambda: hashed("x"))
        assert len({*await asyncio.gather(*some)}) == passwords.WAITING
    finally:
        hasher.close()
