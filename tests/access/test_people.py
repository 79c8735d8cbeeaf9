"""People: adding and changing them, log-ins, what survives a restart, what a copied disk holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.access.people import People
from edge.access.places import BOX
from edge.access.register import Kept
from edge.access.roles import ROLES, Right, Role
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.seal import Keyring, Seal
from tests.access.people_rig import PASSWORDS, Shop, app_code


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
async def people(shop: Shop) -> AsyncIterator[People]:
    async with shop.opened() as people:
        await shop.add("olga", "sven", "anna")
        yield people


async def refused(code: Code, attempt: object) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await attempt  # type: ignore[misc]
    assert caught.value.code is code
    return caught.value


async def with_app(people: People, shop: Shop, id_: str) -> str:
    """Give `id_` an authenticator app; its QR code's text."""
    uri = people.offer_app(id_, "s1")
    await people.take_app("test", id_, app_code(uri, shop.now_s))
    shop.pass_s(30)
    return uri


def test_only_owners_change_people_and_only_two_roles_approve() -> None:
    assert {role for role, row in ROLES.items() if Right.PEOPLE in row.rights} == {Role.OWNER}
    assert {role for role, row in ROLES.items() if Right.APPROVE in row.rights} == {Role.SUPERVISOR, Role.OWNER}


async def test_a_log_in_lives_through_a_restart_and_ends_with_a_reboot(shop: Shop) -> None:
    async with shop.opened() as people:
        await shop.add("anna")
        token, person = await people.log_in("anna", PASSWORDS["anna"], None, "3")
        assert (person.name, person.role) == ("Anna", Role.CASHIER)
    async with shop.opened() as people:
        assert people.who(token, "3") == person
    shop.boot = "boot-2"
    async with shop.opened() as people:
        assert people.who(token, "3") is None
        await people.log_in("anna", PASSWORDS["anna"], None, "3")


async def test_a_session_ends_when_unused_after_a_day_and_at_log_out(shop: Shop, people: People) -> None:
    token, _ = await people.log_in("anna", PASSWORDS["anna"], None, "3")
    for _ in range(23):
        shop.pass_s(30 * 60)
        assert people.who(token, "3") is not None
    shop.pass_s(31 * 60)
    assert people.who(token, "3") is None, "twelve hours are over, however much it was used"
    token, _ = await people.log_in("anna", PASSWORDS["anna"], None, "3")
    shop.pass_s(61 * 60)
    assert people.who(token, "3") is None
    token, _ = await people.log_in("anna", PASSWORDS["anna"], None, "3")
    assert people.log_out(token, "3")
    assert people.who(token, "3") is None
    assert not people.log_out(token, "3")


async def test_the_next_cashier_ends_the_session_of_the_one_before_at_that_lane(shop: Shop, people: People) -> None:
    await shop.add("bert")
    anna, _ = await people.log_in("anna", PASSWORDS["anna"], None, "3")
    elsewhere, _ = await people.log_in("anna", PASSWORDS["anna"], None, "4")
    await people.log_in("bert", PASSWORDS["bert"], None, "3")
    assert people.who(anna, "3") is None
    assert people.who(elsewhere, "4") is not None


async def test_with_an_app_password_alone_does_not_do(shop: Shop, people: People) -> None:
    uri = await with_app(people, shop, "olga")
    await refused(Code.LOG_IN_REFUSED, people.log_in("olga", PASSWORDS["olga"], None, BOX))
    await refused(Code.LOG_IN_REFUSED, people.log_in("olga", "wrong but long enough", app_code(uri, shop.now_s), BOX))
    await people.log_in("olga", PASSWORDS["olga"], app_code(uri, shop.now_s), BOX)


async def test_an_app_counts_only_once_it_has_shown_a_code(shop: Shop, people: People) -> None:
    uri = people.offer_app("olga", "s1")
    await people.log_in("olga", PASSWORDS["olga"], None, BOX)
    await refused(Code.LOG_IN_REFUSED, people.take_app("test", "olga", app_code(uri, shop.now_s + 600)))
    shop.pass_s(601)
    await refused(Code.EXPIRED, people.take_app("test", "olga", app_code(uri, shop.now_s)))


async def test_a_gateway_that_woke_up_in_the_past_lets_in_with_two_codes(shop: Shop) -> None:
    async with shop.opened() as people:
        await shop.add("olga")
        uri = await with_app(people, shop, "olga")
    phone_s = shop.now_s
    shop.boot, shop.synced = "boot-2", False
    shop.wall_ms -= 9 * 24 * 3600_000
    async with shop.opened() as people:
        await refused(Code.LOG_IN_REFUSED, people.log_in("olga", PASSWORDS["olga"], app_code(uri, phone_s), BOX))
        both = f"{app_code(uri, phone_s)} {app_code(uri, phone_s + 30)}"
        await people.log_in("olga", PASSWORDS["olga"], both, BOX)
        await refused(Code.LOG_IN_REFUSED, people.log_in("olga", PASSWORDS["olga"], both, BOX))


async def test_recovery_codes_stand_in_for_the_app(shop: Shop, people: People) -> None:
    await refused(Code.CONFLICT, people.new_recovery_codes("test", "olga"))
    await with_app(people, shop, "olga")
    codes = await people.new_recovery_codes("test", "olga")
    await people.log_in("olga", PASSWORDS["olga"], codes[0], BOX)
    assert [one["recovery_codes"] for one in people.all() if one["person"] == "olga"] == [9]
    await people.drop_app("test", "olga")
    await people.log_in("olga", PASSWORDS["olga"], None, BOX)


async def test_a_hash_is_renewed_with_todays_parameters_at_the_next_log_in(shop: Shop, people: People) -> None:
    weak = Argon2id(salt=b"0" * 16, length=32, iterations=1, lanes=1, memory_cost=8192)
    kept = people.register.there("anna")
    old = weak.derive_phc_encoded(PASSWORDS["anna"].encode())
    await people.register.change(
        AuditAction.PERSON_CHANGED, "test", "anna", kept.model_copy(update={"password": old}), ""
    )
    await people.log_in("anna", PASSWORDS["anna"], None, "3")
    assert people.register.there("anna").password.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await people.log_in("anna", PASSWORDS["anna"], None, "3")


async def test_a_new_password_or_disabling_logs_out_everywhere(people: People) -> None:
    token, _ = await people.log_in("anna", PASSWORDS["anna"], None, "3")
    await people.set_password("olga", "anna", "739155")
    assert people.who(token, "3") is None
    await refused(Code.LOG_IN_REFUSED, people.log_in("anna", PASSWORDS["anna"], None, "3"))
    token, _ = await people.log_in("anna", "739155", None, "3")
    await people.set_active("olga", "anna", False)
    assert people.who(token, "3") is None
    await refused(Code.LOG_IN_REFUSED, people.log_in("anna", "739155", None, "3"))
    await people.set_active("olga", "anna", True)
    await people.log_in("anna", "739155", None, "3")


async def test_the_last_owner_stays_one(shop: Shop, people: People) -> None:
    await refused(Code.CONFLICT, people.set_active("olga", "olga", False))
    await refused(Code.CONFLICT, people.set_role("olga", "olga", Role.TECHNICIAN))
    await shop.add("otto")
    await people.set_active("otto", "olga", False)
    await refused(Code.CONFLICT, people.set_active("otto", "otto", False))


async def test_a_pin_does_not_make_an_owner(people: People) -> None:
    await refused(Code.CONFLICT, people.set_role("olga", "anna", Role.OWNER))
    await refused(Code.BAD_MESSAGE, people.set_role("olga", "anna", Role.OWNER, "short one"))
    await people.set_role("olga", "anna", Role.OWNER, "three tin buttons in a drawer")


async def test_a_technician_has_no_business_at_a_lane(shop: Shop, people: People) -> None:
    await shop.add("tina")
    await refused(Code.NOT_ALLOWED, people.log_in("tina", PASSWORDS["tina"], None, "3"))
    await people.log_in("tina", PASSWORDS["tina"], None, BOX)


async def test_every_change_is_recorded_with_who_did_it(shop: Shop, people: People) -> None:
    await people.set_role("olga", "sven", Role.CASHIER)
    await people.unlock("olga", "anna")
    found = [(one["action"], one["person"], one["subject"], one["detail"]) for one in await shop.audited()]
    assert found[:3] == [
        ("person.added", "test", "olga", "as owner"),
        ("person.added", "test", "sven", "as supervisor"),
        ("person.added", "test", "anna", "as cashier"),
    ]
    assert found[3:] == [
        ("person.changed", "olga", "sven", "supervisor to cashier"),
        ("person.unlocked", "olga", "anna", ""),
    ]


async def test_a_lost_key_locks_its_people_out_and_comes_back_with_them(shop: Shop) -> None:
    async with shop.opened():
        await shop.add("olga")
    there, shop.keyring = shop.keyring, Keyring.new()
    async with shop.opened() as people:
        assert people.register.unreadable == ("olga",)
        assert not people.configured
        await refused(Code.CONFLICT, people.add("test", "olga", "Olga", Role.OWNER, PASSWORDS["olga"]))
        await shop.add("otto")
    shop.keyring = Keyring((*there.keys, *shop.keyring.keys))
    async with shop.opened() as people:
        assert [one["person"] for one in people.all()] == ["olga", "otto"]


async def test_attack_owner_written_onto_the_disk(shop: Shop) -> None:
    """Somebody writes to the disk without its key: a row in plain, or another person's, lets nobody in."""
    async with shop.opened() as people:
        await shop.add("olga", "anna")
        mine = people.register.there("anna").model_copy(update={"role": Role.OWNER}).model_dump_json().encode()
        rows = dict(await shop.store.fetch_all("SELECT id, sealed FROM people"))
        await shop.store.write(
            [
                ("INSERT INTO people(id, sealed) VALUES ('eve', ?)", (mine,)),
                ("UPDATE people SET sealed = ? WHERE id = 'olga'", (rows["anna"],)),
            ]
        )
    for _ in range(2):
        async with shop.opened() as people:
            assert people.register.unreadable == ("eve", "olga")
            await refused(Code.LOG_IN_REFUSED, people.log_in("eve", PASSWORDS["anna"], None, BOX))
            await refused(Code.LOG_IN_REFUSED, people.log_in("olga", PASSWORDS["anna"], None, BOX))


async def test_a_row_that_cannot_be_read_puts_none_of_its_secrets_into_the_log(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """A later version has written a field that this one does not know."""
    async with shop.opened() as people:
        await shop.add("olga")
        kept = people.register.there("olga")
        row = orjson.dumps({**orjson.loads(kept.model_dump_json()), "password": [kept.password], "more": kept.password})
        sealed = Seal(shop.keyring, "people").seal(row, b"people|sealed|olga")
        await shop.store.write([("UPDATE people SET sealed = ? WHERE id = 'olga'", (sealed,))])
        assert kept.password not in repr(kept)
    async with shop.opened() as people:
        assert people.register.unreadable == ("olga",)
    assert "cannot be read" in caplog.text
    assert "$argon2id" not in caplog.text


async def test_attack_journal_damaged_to_be_rid_of_people(shop: Shop) -> None:
    """Somebody damages the journal, so that it is set aside: who may log in and approve is carried into the new one,
    and so are the pauses after wrong tries.
    """
    async with shop.opened() as people:
        await shop.add("olga", "anna")
        for _ in range(5):
            await wrong(people, shop, "olga")
        epoch = shop.store.epoch
    with (shop.path / "store.db").open("r+b") as file:
        file.write(b"damaged, says he")
    async with shop.opened() as people:
        assert shop.store.epoch != epoch
        assert [one["person"] for one in people.all()] == ["anna", "olga"]
        await refused(Code.TOO_FAST, people.log_in("olga", "wrong", None, "3"))
        await people.log_in("anna", PASSWORDS["anna"], None, "3")


async def wrong(people: People, shop: Shop, id_: str) -> None:
    """One wrong try at lane 3, after whatever pause."""
    shop.pass_s(60)
    await refused(Code.LOG_IN_REFUSED, people.log_in(id_, "wrong", None, "3"))


async def test_rows_are_sealed_anew_under_a_new_key(shop: Shop) -> None:
    async with shop.opened():
        await shop.add("olga")
    old = shop.keyring
    shop.keyring = Keyring((*Keyring.new().keys, *old.keys))
    async with shop.opened():
        pass
    shop.keyring = Keyring(shop.keyring.keys[:1])
    async with shop.opened() as people:
        await people.log_in("olga", PASSWORDS["olga"], None, BOX)


async def test_attack_copied_disk_holds_no_secret_of_people(shop: Shop) -> None:
    """Whoever copies the disk finds no hash to guess at, no app's secret and no usable session: rows are sealed."""
    async with shop.opened() as people:
        await shop.add("olga")
        uri = await with_app(people, shop, "olga")
        codes = await people.new_recovery_codes("test", "olga")
        token, _ = await people.log_in("olga", PASSWORDS["olga"], codes[0], BOX)
        kept: Kept = people.register.there("olga")
    disk = b"".join(file.read_bytes() for file in shop.path.iterdir() if file.is_file())
    assert b"person.logged_in" in disk or b"people" in disk
    secrets = [
        kept.password,
        kept.app.secret if kept.app else "",
        token,
        uri,
        *kept.recovery_hashes,
        *codes,
        PASSWORDS["olga"],
    ]
    assert not [secret for secret in secrets if secret.encode() in disk]
    assert b"argon2" not in disk


async def test_old_wrong_tries_are_forgotten_on_the_disk_too(shop: Shop, people: People) -> None:
    await refused(Code.LOG_IN_REFUSED, people.log_in("anna", "111222", None, "3"))
    shop.pass_s(25 * 3600)
    await refused(Code.LOG_IN_REFUSED, people.log_in("sven", "no such words", None, "4"))
    await shop.store.write([])
    rows = await shop.store.fetch_all("SELECT person, place FROM wrong_tries ORDER BY person, place")
    assert rows == [("*", "4"), ("sven", "*"), ("sven", "4")]
