"""Passkeys against an authenticator in software that tells the truth, and lies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.access import passkeys as module
from edge.access.passkeys import Passkeys
from edge.access.places import BOX
from edge.bus.messages.replies import Code, ProblemError
from tests.access.people_rig import Shop
from tests.access.software_authenticator import UP, UV, Authenticator, text


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    async with shop.opened():
        await shop.add("olga", "otto")
        yield shop


@pytest.fixture
def keys(shop: Shop) -> Passkeys:
    people = shop.people
    return Passkeys(
        people.register, people.proving.turn, shop.audit, people.now_s, "store.example", "https://store.example"
    )


@pytest.fixture
async def phone(keys: Passkeys) -> Authenticator:
    """Olga's, registered."""
    phone = Authenticator()
    await keys.take("olga", "olga", phone.create(keys.offer("olga")), "phone")
    return phone


async def refused(keys: Passkeys, response: dict[str, Any], code: Code = Code.LOG_IN_REFUSED) -> None:
    with pytest.raises(ProblemError) as caught:
        await keys.prove(response, BOX)
    assert caught.value.code is code


async def test_a_registered_passkey_lets_in(shop: Shop, keys: Passkeys, phone: Authenticator) -> None:
    person = await keys.prove(phone.get(keys.ask()), BOX)
    assert person.id == "olga"
    await keys.prove(phone.get(keys.ask()), BOX)
    assert shop.people.register.there("olga").passkeys[0].counter == 2


async def test_it_lives_through_a_restart_and_can_be_removed(tmp_path: Path) -> None:
    shop, phone = Shop(tmp_path), Authenticator()

    def of(shop: Shop) -> Passkeys:
        people = shop.people
        return Passkeys(
            people.register, people.proving.turn, shop.audit, people.now_s, "a.example", "https://a.example"
        )

    phone.origin = "https://a.example"
    async with shop.opened():
        await shop.add("olga")
        keys = of(shop)
        await keys.take("olga", "olga", phone.create(keys.offer("olga")))
    async with shop.opened():
        keys = of(shop)
        assert (await keys.prove(phone.get(keys.ask()), BOX)).id == "olga"
        await keys.remove("olga", "olga", text(phone.credential_id))
        await refused(keys, phone.get(keys.ask()))


async def test_a_device_without_a_counter_is_let_in_again_and_again(shop: Shop, keys: Passkeys) -> None:
    phone = Authenticator()
    await keys.take("olga", "olga", phone.create(keys.offer("olga")))
    for _ in range(2):
        phone.counter = -1
        await keys.prove(phone.get(keys.ask()), BOX)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"origin": "https://st0re.example"}, {}),
        ({"rp_id": "evil.example"}, {}),
        ({"flags": UP}, {}),
        ({"flags": UV}, {}),
        ({}, {"type": "webauthn.create"}),
        ({}, {"challenge": text(b"0" * 32)}),
        ({"user": b"otto"}, {}),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, {}),
        ({"credential_id": b"1" * 32}, {}),
    ],
)  # fmt: skip
async def test_attack_passkey_that_lies(
    keys: Passkeys, phone: Authenticator, lie: dict[str, Any], words: dict[str, Any]
) -> None:
    """A phishing page, another party, no finger, another challenge, person or key: refused, all with one answer."""
    for name, value in lie.items():
        setattr(phone, name, value)
    await refused(keys, phone.get(keys.ask(), **words))


async def test_attack_passkeys_answer_replayed(shop: Shop, keys: Passkeys, phone: Authenticator) -> None:
    """Somebody recorded a log-in and sends it again, or an old challenge is answered: good once, for five minutes."""
    answer = phone.get(keys.ask())
    await keys.prove(answer, BOX)
    await refused(keys, answer)
    late = keys.ask()
    shop.pass_s(module.CHALLENGE_S + 1)
    await refused(keys, phone.get(late))


async def test_attack_passkey_copied(keys: Passkeys, phone: Authenticator) -> None:
    """A device was cloned: whichever shows a counter that has been seen is refused, and that is recorded."""
    await keys.prove(phone.get(keys.ask()), BOX)
    phone.counter -= 1
    await refused(keys, phone.get(keys.ask()))


async def test_attack_passkey_registered_for_somebody_else(keys: Passkeys, phone: Authenticator) -> None:
    """Somebody answers another person's registration, or brings a key that is known: nothing is kept."""
    mine = keys.offer("olga")
    with pytest.raises(ProblemError):
        await keys.take("otto", "otto", Authenticator().create(mine))
    with pytest.raises(ProblemError) as caught:
        await keys.take("otto", "otto", phone.create(keys.offer("otto")))
    assert caught.value.code is Code.CONFLICT


async def test_attack_passkey_of_a_weak_kind(keys: Passkeys) -> None:
    """A key of an algorithm that was not asked for (RS1: RSA with SHA-1) is not kept."""
    phone = Authenticator(algorithm=-65535)
    with pytest.raises(ProblemError) as caught:
        await keys.take("olga", "olga", phone.create(keys.offer("olga")))
    assert caught.value.code is Code.BAD_MESSAGE


async def test_whoever_is_disabled_is_not_let_in(shop: Shop, keys: Passkeys, phone: Authenticator) -> None:
    await shop.people.set_active("otto", "olga", False)
    await refused(keys, phone.get(keys.ask()))


async def test_attack_rubbish_in_place_of_a_passkey(keys: Passkeys, phone: Authenticator) -> None:
    """Somebody sends cut, changed and senseless answers: refused each time, never a fault of the gateway's."""
    good = phone.get(keys.ask())
    for field in good["response"]:
        for value in ("", "AA", "!", text(b"\xff" * 40), text(b"\xa1" * 40), "A" * 20_000, None, 7, {}):
            bad = {**good, "response": {**good["response"], field: value}}
            await refused(keys, bad)
    for bad in ({}, {"id": 1}, {**good, "response": []}, {**good, "rawId": "x"}, {**good, "type": "other"}):
        await refused(keys, bad)
    made = Authenticator().create(keys.offer("olga"))
    for value in ("", "oA", text(b"\xbf"), text(b"\x9b" + b"\xff" * 8), text(b"\x81" * 900), None, 7):
        bad = {**made, "response": {**made["response"], "attestationObject": value}}
        with pytest.raises(ProblemError):
            await keys.take("olga", "olga", bad)


async def test_a_passkey_begins_a_session_like_a_password(shop: Shop, keys: Passkeys, phone: Authenticator) -> None:
    token, _ = shop.people.admit(await keys.prove(phone.get(keys.ask()), BOX), BOX)
    person = shop.people.who(token, BOX)
    assert person is not None
    assert person.id == "olga"
