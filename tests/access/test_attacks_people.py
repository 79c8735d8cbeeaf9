"""What somebody at a till tries who is not who they say, or may not what they want, and what becomes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.access import lockout, passwords, recovery
from edge.access.places import BOX
from edge.access.roles import Role
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.store import StorageFull
from tests.access.counter_with_people import NO_SALE, SALE, Gateway, gateway
from tests.access.people_rig import PASSWORDS, Shop, app_code


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, "drawer_without_sale", "takeover") as one:
        yield one


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def tried(shop: Shop, id_: str, password: str, place: str, code: str | None = None) -> ProblemError | None:
    """What a log-in was answered; None when it was let in."""
    try:
        await shop.people.log_in(id_, password, code, place)
    except ProblemError as problem:
        return problem
    return None


# -- guessing ----------------------------------------------------------------------------------------------------------


async def test_attack_password_guessed(shop: Shop) -> None:
    """Somebody guesses a PIN at a lane: pauses grow to a quarter of an hour, restarts forgive nothing."""
    async with shop.opened():
        await shop.add("olga", "anna")
        heard = wrong = 0
        for number in range(2_000):
            problem = await tried(shop, "anna", f"{200_000 + number}", "3")
            assert problem is not None
            heard += 1
            if problem.code is Code.LOG_IN_REFUSED:
                wrong += 1
            shop.pass_s(30)
        assert heard == 2_000
        assert wrong < 90, "sixteen hours of trying"
    async with shop.opened():
        problem = await tried(shop, "anna", PASSWORDS["anna"], "3")
        assert problem is not None
        assert problem.code is Code.TOO_FAST
        assert problem.retry_after_ms is not None
        assert problem.retry_after_ms <= lockout.HERE.longest_s * 1000 + 1
        shop.pass_s(lockout.HERE.longest_s)
        assert await tried(shop, "anna", PASSWORDS["anna"], "3") is None
        locked = await shop.audited("person.locked")
        assert locked
        assert locked[0]["subject"] == "anna"


async def test_attack_owner_shut_out_by_wrong_tries(shop: Shop) -> None:
    """Somebody fails in the owner's name at every lane: at the box she does not wait, elsewhere half a minute."""
    async with shop.opened() as people:
        await shop.add("olga", "anna")
        for _ in range(30):
            for lane in "123456":
                await tried(shop, "olga", "not her password", lane)
            shop.pass_s(5)
        for _ in range(30):
            shop.pass_s(31)
            await tried(shop, "olga", "not her password", "3")
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX) is None
        shop.pass_s(lockout.ANYWHERE.longest_s)
        assert await tried(shop, "olga", PASSWORDS["olga"], "7") is None
        assert await tried(shop, "anna", PASSWORDS["anna"], "7") is None, "nobody else waits there"
        problem = await tried(shop, "olga", PASSWORDS["olga"], "3")
        assert problem is not None
        assert problem.code is Code.TOO_FAST
        await people.unlock("olga", "olga")
        shop.pass_s(lockout.ANYBODY.longest_s)
        assert await tried(shop, "olga", PASSWORDS["olga"], "3") is None


async def test_attack_one_password_tried_on_everybody(shop: Shop) -> None:
    """Somebody tries one PIN on ever new names at a lane: the lane waits, however many names there are."""
    async with shop.opened():
        await shop.add("anna")
        refused = 0
        for number in range(300):
            problem = await tried(shop, f"person-{number}", "482617", "3")
            refused += problem is not None and problem.code is Code.LOG_IN_REFUSED
            shop.pass_s(1)
        assert refused < 30
        assert await tried(shop, "anna", PASSWORDS["anna"], "4") is None


async def test_attack_guess_given_up_before_it_is_counted(store: Gateway) -> None:
    """A till lets the deadline run out before the answer: the try is counted all the same."""
    guess = {"person": "anna", "password": "111222"}
    for _ in range(lockout.HERE.free + 1):
        assert await store.code("person.log_in", guess, deadline_ms=1) in ("timed_out", "too_fast", "log_in_refused")
        async with store.people.proving.turn:
            pass  # what was begun has come to its end
        store.late_s += 2
    store.late_s -= 2
    assert await store.code("person.log_in", {"person": "anna", "password": PASSWORDS["anna"]}) == "too_fast"


async def test_attack_users_enumerated(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asks who there is: a name that nobody has gets the same words for the same work."""
    done: list[str] = []
    fits, stretched = passwords.fits, recovery.stretched

    def counted_fits(password: str, phc: str | None) -> bool:
        done.append("fits")
        return fits(password, phc)

    def counted_stretched(code: str, salt: bytes) -> bytes:
        done.append("stretched")
        return stretched(code, salt)

    monkeypatch.setattr(passwords, "fits", counted_fits)
    monkeypatch.setattr(recovery, "stretched", counted_stretched)
    async with shop.opened() as people:
        await shop.add("olga", "otto", "anna", "bert")
        await people.set_active("olga", "bert", False)
        uri = people.offer_app("otto", "s1")
        await people.take_app("test", "otto", app_code(uri, shop.now_s))
        await people.new_recovery_codes("test", "otto")
        for code in (None, "123456", "123456 654321", "0000-0000-0000-0000"):
            answers, work = set(), set()
            cases = [("nobody", "x" * 12), ("anna", "x" * 12), ("bert", PASSWORDS["bert"]), ("otto", PASSWORDS["otto"])]
            for id_, password in cases:
                done.clear()
                problem = await tried(shop, id_, password, BOX, code)
                assert problem is not None
                answers.add((problem.code, problem.detail, problem.retry_after_ms))
                work.add(tuple(done))
                shop.pass_s(3600)
            assert len(answers) == 1
            assert len(work) == 1


# -- second factors ----------------------------------------------------------------------------------------------------


async def test_attack_code_of_an_app_replayed(shop: Shop) -> None:
    """Somebody saw the owner type password and code: that code was used, and none before it is good any more."""
    async with shop.opened() as people:
        await shop.add("olga")
        uri = people.offer_app("olga", "s1")
        await people.take_app("test", "olga", app_code(uri, shop.now_s))
        shop.pass_s(30)
        code = app_code(uri, shop.now_s)
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, code) is None
        for seen in (code, app_code(uri, shop.now_s - 30), f"{app_code(uri, shop.now_s - 30)}{code}"):
            problem = await tried(shop, "olga", PASSWORDS["olga"], BOX, seen)
            assert problem is not None
            assert problem.code is Code.LOG_IN_REFUSED
            shop.pass_s(0.5)
    async with shop.opened():
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, code) is not None, "a restart forgets no code"


async def test_attack_recovery_code_used_again(shop: Shop) -> None:
    """Somebody finds a recovery code that was used: it is good once, the others still are."""
    async with shop.opened() as people:
        await shop.add("olga")
        uri = people.offer_app("olga", "s1")
        await people.take_app("test", "olga", app_code(uri, shop.now_s))
        codes = await people.new_recovery_codes("test", "olga")
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, codes[0]) is None
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, codes[0]) is not None
    async with shop.opened():
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, codes[0]) is not None
        assert await tried(shop, "olga", PASSWORDS["olga"], BOX, codes[1]) is None
        (first, second) = await shop.audited("recovery_code.used")
        assert (first["person"], first["detail"], second["detail"]) == ("olga", "9 are left", "8 are left")


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_attack_session_used_at_another_lane(store: Gateway) -> None:
    """A till shows another lane's session: it is worth nothing there, and that is recorded; sales go on."""
    session = await store.log_in("anna")
    assert await store.code("drawer.open", SALE, lane="lane-1", session=session) == "done"
    reply = await store.approve("sven", session, NO_SALE, lane="lane-2")
    assert reply["problem"]["code"] == "not_logged_in"
    assert await store.ask("person.log_out", {}, lane="lane-2", session=session) | {"to": ""} == {
        "to": "", "ok": True, "result": {"logged_out": False},
    }  # fmt: skip
    (entry, *_) = await store.audited("lane.refused")
    assert (entry["lane"], entry["subject"]) == ("lane-2", "anna")
    assert await store.code("device.release", {"device": "scale-1"}, session=session) == "done"


async def test_a_role_taken_away_is_gone_from_a_live_session_at_once(store: Gateway) -> None:
    session = await store.log_in("anna")
    given = (await store.approve("sven", session, NO_SALE))["result"]
    await store.people.set_role("olga", "sven", Role.CASHIER)
    assert await store.code("drawer.open", NO_SALE, session=session, grant=given["grant"]) == "approval_needed"
    assert (await store.approve("sven", session, NO_SALE))["problem"]["code"] == "not_allowed"
    await store.people.set_active("olga", "anna", False)
    assert (await store.approve("susi", session, NO_SALE))["problem"]["code"] == "not_logged_in"


# -- second persons ----------------------------------------------------------------------------------------------------


async def test_an_approved_opening_carries_both_names(store: Gateway) -> None:
    assert await store.code("drawer.open", NO_SALE) == "not_logged_in"
    session = await store.log_in("anna")
    assert await store.code("drawer.open", NO_SALE, session=session) == "approval_needed"
    given = (await store.approve("sven", session, NO_SALE))["result"]
    assert (given["approved_by"], given["expires_in_ms"]) == ("sven", 60_000)
    assert await store.code("drawer.open", NO_SALE, session=session, grant=given["grant"], id_="o-1") == "done"
    assert await store.code("drawer.open", NO_SALE, session=session, grant=given["grant"], id_="o-1") == "done"
    (fact,) = await store.counter.until_facts("tillgate.drawer.opened.v1", 1)
    assert (fact["operator_id"], fact["operator_verified"], fact["reason"]) == ("anna", True, NO_SALE["reason"])
    for action in ("override.granted", "override.used", "drawer.without_sale"):
        (entry,) = await store.audited(action)
        assert (entry["person"], entry["second_person"], entry["lane"]) == ("anna", "sven", "lane-1")
        assert entry["outcome"] == "done"


async def test_a_sale_needs_nobody(store: Gateway) -> None:
    assert await store.code("drawer.open", SALE) == "done"
    assert await store.code("drawer.open", {**SALE, "receipt_number": "18"}, session="of yesterday") == "done"
    fact = (await store.counter.facts("tillgate.drawer.opened.v1"))[0]
    assert (fact["operator_id"], fact["operator_verified"]) == ("whoever", False)


async def test_attack_approved_by_oneself(store: Gateway) -> None:
    """A supervisor who is logged in approves of their own opening: refused and recorded."""
    session = await store.log_in("sven")
    assert (await store.approve("sven", session, NO_SALE))["problem"]["code"] == "not_allowed"
    (entry,) = await store.audited("override.granted")
    assert (entry["outcome"], entry["person"], entry["detail"]) == ("refused", "sven", "by themselves")
    assert (await store.approve("susi", session, NO_SALE))["ok"]


async def test_attack_approved_by_a_cashier(store: Gateway) -> None:
    """Two cashiers approve of each other's openings: refused and recorded with both names."""
    session = await store.log_in("anna")
    assert (await store.approve("bert", session, NO_SALE))["problem"]["code"] == "not_allowed"
    (entry,) = await store.audited("override.granted")
    assert (entry["outcome"], entry["person"], entry["second_person"]) == ("refused", "anna", "bert")


async def test_attack_supervisors_password_guessed_at_an_approval(store: Gateway) -> None:
    """A cashier guesses the supervisor's password at an approval: the same pauses as at a log-in."""
    session = await store.log_in("anna")
    codes = [
        (await store.approve("sven", session, NO_SALE, password=f"guess number {n}"))["problem"]["code"]
        for n in range(8)
    ]
    assert codes[: lockout.HERE.free + 1] == ["log_in_refused"] * (lockout.HERE.free + 1)
    assert set(codes[lockout.HERE.free + 1 :]) == {"too_fast"}
    assert (await store.approve("sven", session, NO_SALE))["problem"]["code"] == "too_fast"


async def test_attack_approval_used_twice(store: Gateway) -> None:
    """A cashier shows one approval twice: the second opening is refused and recorded."""
    session = await store.log_in("anna")
    grant = (await store.approve("sven", session, NO_SALE))["result"]["grant"]
    assert await store.code("drawer.open", NO_SALE, session=session, grant=grant) == "done"
    assert await store.code("drawer.open", NO_SALE, session=session, grant=grant) == "approval_needed"
    assert [entry["outcome"] for entry in await store.audited("override.used")] == ["done", "refused"]


async def test_attack_approval_used_for_something_else(store: Gateway) -> None:
    """A cashier gets one thing approved and asks for another: refused, and the approval is void."""
    session = await store.log_in("anna")
    grant = (await store.approve("sven", session, NO_SALE))["result"]["grant"]
    takeover = {"device": "scale-1", "takeover": True, "operator_id": "anna", "reason": NO_SALE["reason"]}
    assert await store.code("device.claim", takeover, session=session, grant=grant) == "approval_needed"
    assert await store.code("drawer.open", NO_SALE, session=session, grant=grant) == "approval_needed"
    grant = (await store.approve("sven", session, NO_SALE))["result"]["grant"]
    other = {**NO_SALE, "reason": "because"}
    assert await store.code("drawer.open", other, session=session, grant=grant) == "approval_needed"


async def test_attack_approval_taken_to_another_lane(store: Gateway) -> None:
    """An approval of lane 1 is shown at lane 2, by somebody logged in there: refused."""
    takeover = {"device": "scale-1", "takeover": True, "operator_id": "anna", "reason": "till 2 hangs"}
    session, there = await store.log_in("anna"), await store.log_in("bert", "lane-2")
    grant = (await store.approve("sven", session, takeover, operation="device.claim"))["result"]["grant"]
    how = {"lane": "lane-2", "session": there, "grant": grant}
    assert await store.code("device.claim", takeover, **how) == "approval_needed"
    assert await store.code("device.claim", takeover, session=session, grant=grant) == "approval_needed"


async def test_attack_approval_kept_for_the_evening(store: Gateway) -> None:
    """A cashier keeps an approval until the supervisor has gone home: after a minute it is void."""
    session = await store.log_in("anna")
    grant = (await store.approve("sven", session, NO_SALE))["result"]["grant"]
    store.late_s += 61
    assert await store.code("drawer.open", NO_SALE, session=session, grant=grant) == "approval_needed"


async def test_attack_approval_used_by_the_next_cashier(store: Gateway) -> None:
    """What was approved for one cashier is used by another who logged in at the same lane since: refused."""
    session = await store.log_in("anna")
    grant = (await store.approve("sven", session, NO_SALE))["result"]["grant"]
    session = await store.log_in("bert")
    assert await store.code("drawer.open", NO_SALE, session=session, grant=grant) == "approval_needed"


async def test_a_takeover_carries_the_person_who_was_logged_in(store: Gateway) -> None:
    held = await store.ask("device.claim", {"device": "scale-1"}, lane="lane-2")
    assert held["ok"]
    takeover = {"device": "scale-1", "takeover": True, "operator_id": "somebody-else", "reason": "till 2 hangs"}
    session = await store.log_in("anna")
    grant = (await store.approve("sven", session, takeover, operation="device.claim"))["result"]["grant"]
    assert await store.code("device.claim", takeover, session=session, grant=grant) == "done"
    (fact,) = await store.counter.until_facts("tillgate.device.taken_over.v1", 1)
    assert (fact["operator_id"], fact["operator_verified"]) == ("anna", True)
    (entry,) = await store.audited("device.taken_over")
    assert (entry["person"], entry["second_person"], entry["subject"]) == ("anna", "sven", "scale-1")


async def test_without_overrides_and_people_everything_is_as_it_was(tmp_path: Path) -> None:
    async with gateway(tmp_path) as store:
        assert await store.code("drawer.open", NO_SALE) == "done"
        (fact,) = await store.counter.until_facts("tillgate.drawer.opened.v1", 1)
        assert (fact["operator_id"], fact["operator_verified"]) == ("whoever", False)
        (entry,) = await store.audited("drawer.without_sale")
        assert (entry["person"], entry["detail"]) == (None, "the till says whoever; change for the bank")


async def test_where_nobody_can_approve_the_shop_goes_on_and_says_so(store: Gateway) -> None:
    for id_ in ("sven", "susi"):
        await store.people.set_active("olga", id_, False)
    kept = store.people.register.there("olga").model_copy(update={"active": False})
    store.people.register._kept["olga"] = kept  # as when the key to her row is lost
    assert await store.code("drawer.open", NO_SALE) == "done"
    (warning,) = store.warnings.shown()
    assert warning.code == "nobody_approves"


async def test_an_approval_that_cannot_be_recorded_is_not_given(store: Gateway) -> None:
    session = await store.log_in("anna")
    store.counter.free_bytes = 0
    with pytest.raises(StorageFull):
        await store.audit.record("override.granted", person="anna")  # type: ignore[arg-type]
    assert (await store.approve("sven", session, NO_SALE))["problem"]["code"] == "storage_full"
    assert await store.code("drawer.open", SALE, session=session) != "not_logged_in"


# -- what stays behind -------------------------------------------------------------------------------------------------


async def test_attack_passwords_read_from_the_disk_or_the_log(store: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody reads quarantine, answers and logs: refused requests leave no password or session there."""
    session = await store.log_in("anna")
    secret = "4826173905"
    bad = [
        ("person.log_in", b'{"id":"a","parameters":{"person":"anna","password":' + secret.encode() + b"}}"),
        ("person.log_in", b'{"id":"b","parameters":{"person":"anna","pasword":"' + secret.encode() + b'"}}'),
        ("person.log_in", b'{"id":"c","parameters":{"person":"anna","password":"' + secret.encode() + b'"'),
        ("person.log_in", b'{"id":"d","parameters":"anna ' + secret.encode() + b'"}'),
        ("person.login", b'{"id":"e","parameters":{"person":"anna","password":"' + secret.encode() + b'"}}'),
        ("override.grant", b'{"id":"f","parameters":{"password":"' + secret.encode() + b'","person":7}}'),
        ("drawer.open", b'{"id":"g","session":"' + session.encode() + b'","parameters":{"operator":1}}'),
        ("drawer.open", b'{"id":"h","session":["' + session.encode() + b'"],"parameters":{}}'),
        ("drawer.open", b'{"id":"i","grant":"' + session.encode() + b'","parameters":{'),
        ("drawer.open", b'{"id":"k","session":"x","a":' + b"[" * 900 + b"]" * 900 + b"}"),
        ("drawer.open", b'{"id":"j","grant":["' + session.encode() + b'"'),
        ("drawer.open", b'{"id":"l","sess\\u0069on":["' + session.encode() + b'"],"parameters":{}}'),
        ("drawer.open", b'{"id":"m","parameters":{"passw\\u006frd":"' + secret.encode() + b'"'),
        ("drawer.open", b'{"id":"n","parameters":{"a":{"pin":"' + secret.encode() + b'"},"a":1}}'),
    ]
    answers = [await store.send(operation, payload) for operation, payload in bad]
    assert not [answer for answer in answers if answer["ok"]]
    await store.counter.store.write([])
    assert store.quarantine.count >= len(bad)
    left = b"".join(file.read_bytes() for file in store.counter.directory.glob("store.db*"))
    db = sqlite3.connect(store.counter.store.path)
    rows = [repr(row) for row in db.execute("SELECT payload, reason FROM quarantine")]
    db.close()
    assert len(rows) >= 5, "what is not kept is the same thing again and again"
    for word in (secret, session):
        assert word.encode() not in left
        assert word not in "".join(rows)
        assert word not in repr(answers)
        assert word not in caplog.text
