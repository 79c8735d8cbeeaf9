"""Who may do what at the box: decided at the technician's desk, from the sessions and roles that the store keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.access.at_box import AtBox
from edge.access.people_desk import OfPerson
from edge.access.places import BOX
from edge.access.roles import Right
from edge.bus.messages.base import Message
from edge.bus.messages.replies import ProblemError
from edge.seal import Keyring
from edge.services.requests import Asked
from edge.services.technician import BoxRequest, Service
from tests.access.people_rig import PASSWORDS, Shop


async def nothing(asked: Asked, parameters: Message) -> dict[str, object]:
    return {}


def asks(shop: Shop, right: Right, session: str | None = None, *, without: bool = False, own: bool = False) -> str:
    """Who is let through, or the code of the refusal; what is asked for is about tina, and leaves no other entry."""
    request = BoxRequest(id="r-1", session=session, user="carla", without_log_in=without)
    service = Service(OfPerson, nothing, right, own=own, noted=lambda wish: str(wish.person))
    try:
        return AtBox(shop.people, shop.audit).permit(request, "some.thing", service, OfPerson(person="tina"))
    except ProblemError as problem:
        return str(problem.code)


async def test_each_role_may_what_is_its_own(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.opened() as people:
        await shop.add("olga", "tina", "sven", "anna")
        of = {id_: (await people.log_in(id_, PASSWORDS[id_], None, BOX))[0] for id_ in ("olga", "tina", "sven", "anna")}
        may = {id_: {right for right in Right if asks(shop, right, token) == id_} for id_, token in of.items()}
        assert may["olga"] == set(Right)
        assert may["tina"] == {Right.DEVICES, Right.LANES}
        assert not (may["sven"] | may["anna"]) & {Right.DEVICES, Right.LANES, Right.KEYS, Right.PEOPLE, Right.PRIVACY}
        assert asks(shop, Right.PEOPLE, of["tina"], own=True) == "tina"
        assert asks(shop, Right.PEOPLE, of["sven"], own=True) == "not_allowed"
        people.log_out(of["olga"], BOX)
        assert asks(shop, Right.LANES, of["olga"]) == "not_logged_in"
        assert asks(shop, Right.LANES, without=True) == "box:carla"
    async with shop.opened():
        entries = await shop.audited("box.asked")
        refused = next(one for one in entries if one["outcome"] == "refused")
        assert [refused[key] for key in ("person", "role", "detail")] == ["tina", "technician", "not_allowed"]
        done = [one for one in entries if one["outcome"] == "done"][-1]
        assert [done[key] for key in ("person", "role", "detail")] == ["box:carla", None, "tina"]


async def test_with_the_key_lost_nobody_is_asked_who_they_are(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.opened() as people:
        await shop.add("olga")
        token, _ = await people.log_in("olga", PASSWORDS["olga"], None, BOX)
        assert asks(shop, Right.LANES) == "not_logged_in"
    shop.keyring = Keyring.new()
    async with shop.opened() as people:
        assert people.register.unreadable == ("olga",)
        for right in Right:
            for session in (None, token):
                assert asks(shop, right, session) == "box:carla"
                assert asks(shop, right, without=True) == "box:carla"


@pytest.mark.parametrize("right", [Right.LANES, Right.KEYS, Right.PRIVACY])
async def test_attack_owners_session_of_a_lane_used_at_the_box(tmp_path: Path, right: Right) -> None:
    """Somebody takes an owner's session of a till to the box: it is worth nothing there, and that is recorded."""
    shop = Shop(tmp_path)
    async with shop.opened() as people:
        await shop.add("olga")
        token, _ = await people.log_in("olga", PASSWORDS["olga"], None, "lane-1")
        assert asks(shop, right, token) == "not_logged_in"
        assert [one["outcome"] for one in await shop.audited("box.asked")] == ["refused"]
        assert len(await shop.audited("lane.refused")) == 1
