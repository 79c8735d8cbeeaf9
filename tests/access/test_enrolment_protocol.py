"""The invitation's code and the proofs of enrolment: against the published vector, and against what people mistype."""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from pathlib import Path

import pytest

from edge.bus import enrolment, invitation
from edge.bus.enrolment import Enrolled, EnrolRequest, keys_of, prove, proves
from edge.bus.invitation import ALPHABET, BadCode, Invitation, grouped, new_code, read

PAGE = (Path(__file__).parents[2] / "docs" / "till.md").read_text(encoding="utf-8")
CA = "5e" * 32
CODE = "K7QF2M9D3XHT8BWNBSPB"


def published(name: str) -> str:
    found = re.search(rf"^{re.escape(name)} +([0-9a-f]+)$", PAGE, re.MULTILINE)
    assert found, name
    return found[1]


def request_of(keys: enrolment.Keys) -> EnrolRequest:
    return EnrolRequest(
        v=1, invitation=keys.invitation, store="S0001", lane="lane-3", csr="csr\n", nonce="22" * 32, proof="00" * 32
    )


def answer() -> Enrolled:
    return Enrolled(
        store="S0001", lane="lane-3", certificate="certificate\n", trusted="trusted\n", not_after="", server_name="g",
        bus_port=8883, nonce="33" * 32, proof="00" * 32,
    )  # fmt: skip


def test_the_published_vector_holds() -> None:
    keys = keys_of(CODE)
    assert keys.invitation == published("invitation")
    assert keys.till.hex() == published("till's key")
    assert keys.gateway.hex() == published("gateway's key")
    asked = request_of(keys)
    assert prove(keys.till, enrolment.till_transcript(asked, "11" * 32)) == published("till's proof")
    told = prove(keys.gateway, enrolment.gateway_transcript(asked, "11" * 32, answer()))
    assert told == published("gateway's")


def test_the_published_vector_holds_by_the_standard_library_alone() -> None:
    """HKDF and HMAC written out from RFC 5869 and the page: a second reading."""
    key = hmac.new(bytes(32), CODE.encode(), hashlib.sha256).digest()
    block, made = b"", b""
    for number in (1, 2, 3):
        block = hmac.new(key, block + b"tillgate enrolment v1" + bytes([number]), hashlib.sha256).digest()
        made += block
    assert made[:16].hex() == published("invitation")
    digest = hashlib.sha256(b"csr\n").hexdigest()
    lines = ["tillgate enrolment v1 till", made[:16].hex(), "S0001", "lane-3", "11" * 32, digest, "22" * 32]
    text = "".join(line + "\n" for line in lines).encode()
    assert hmac.new(made[16:48], text, hashlib.sha256).hexdigest() == published("till's proof")


@pytest.mark.parametrize("change", ["store", "lane", "csr", "nonce", "invitation"])
def test_a_proof_is_of_everything_that_was_said(change: str) -> None:
    keys = keys_of(CODE)
    asked = request_of(keys)
    proof = prove(keys.till, enrolment.till_transcript(asked, "11" * 32))
    assert proves(proof, keys.till, enrolment.till_transcript(asked, "11" * 32))
    assert not proves(proof, keys.till, enrolment.till_transcript(asked, "12" * 32)), "another certificate was shown"
    other = asked.model_copy(update={change: getattr(asked, change)[::-1] + "x"})
    assert not proves(proof, keys.till, enrolment.till_transcript(other, "11" * 32))
    assert not proves("é" * 64, keys.till, enrolment.till_transcript(asked, "11" * 32))


@pytest.mark.parametrize("change", ["store", "lane", "certificate", "trusted", "nonce"])
def test_the_gateways_proof_is_of_its_whole_answer_and_of_no_key_but_its_own(change: str) -> None:
    keys, told = keys_of(CODE), answer()
    asked = request_of(keys)
    proof = prove(keys.gateway, enrolment.gateway_transcript(asked, "11" * 32, told))
    other = told.model_copy(update={change: getattr(told, change)[::-1] + "x"})
    assert not proves(proof, keys.gateway, enrolment.gateway_transcript(asked, "11" * 32, other))
    assert not proves(proof, keys.till, enrolment.gateway_transcript(asked, "11" * 32, told))


def test_a_code_is_read_as_people_type_it() -> None:
    assert read("k7qf-2m9d 3xht-8bwn-bspb\n") == Invitation(CODE)
    code = next(code for code in iter(lambda: new_code(CA), None) if {"0", "1"} <= set(code))
    assert read(code.replace("0", "o").replace("1", "L").lower()).code == code
    assert read(grouped(code)).code == code
    assert Invitation(code).suits(CA)
    assert not Invitation(code).suits("a" + CA[1:])


def test_every_wrong_character_and_every_swap_is_noticed() -> None:
    for place in range(len(CODE)):
        for character in ALPHABET:
            if character != CODE[place]:
                with pytest.raises(BadCode, match="typing error"):
                    read(CODE[:place] + character + CODE[place + 1 :])
    for one in range(18):
        for other in range(one):
            mixed = list(CODE)
            mixed[one], mixed[other] = mixed[other], mixed[one]
            if "".join(mixed) != CODE:
                with pytest.raises(BadCode, match="typing error"):
                    read("".join(mixed))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "this has 0"),
        ("K7QF-2M9D", "this has 8"),
        ("U7QF-2M9D-3XHT-8BWN-BSPB", "U never stands"),
        ("K7QF-2M9D-3XHT-8BWN-BSPß", "never stands"),
        ("x" * 3000, "too long"),
        ("tillgate:enrol?v=2&code=" + CODE, "another version"),
        ("tillgate:enrol?v=1", "this has 0"),
        ("tillgate:enrol?", "another version"),
        ("tillgate:enrol?v", "not an invitation"),
        ("tillgate:enrol?v=1&port=0&code=" + CODE, "port"),
        ("tillgate:enrol?v=1&port=99999999&code=" + CODE, "port"),
        ("tillgate:enrol?v=1&ca=abc&code=" + CODE, "no fingerprint"),
        ("tillgate:enrol?v=1&ca=" + "00" * 32 + "&code=" + CODE, "two stores"),
    ],
)
def test_what_is_no_invitation_is_said_to_be_none(text: str, says: str) -> None:
    with pytest.raises(BadCode, match=says):
        read(text)


def test_a_qr_code_says_the_same_as_the_invitation() -> None:
    full = Invitation(CODE, "S0001", "lane-3", ("192.0.2.10", "fd00::1"), 8884, CA)
    assert read(full.text()) == full
    assert full.suits(CA)
    assert not full.suits(CA[:-1] + "f"), "the whole fingerprint counts where it is known"


def test_noise_is_refused_and_never_anything_else() -> None:
    chance = random.Random(5)
    for _ in range(5_000):
        text = "".join(chance.choice(ALPHABET + "-ilou&=?%:tillgate é\0") for _ in range(chance.randrange(40)))
        for written in (text, invitation.SCHEME + text):
            try:
                read(written)
            except BadCode:
                continue
            raise AssertionError(written)
