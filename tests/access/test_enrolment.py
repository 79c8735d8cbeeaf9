"""A till enrols over real TLS, and what is refused is refused with its reason and written down."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from edge.access.enrolment import WARNING
from edge.access.invitations import LIFE_S, MAX_FAILURES
from edge.bus import enrolment as protocol
from edge.bus.enrolment import EnrolRequest, keys_of, prove
from edge.bus.invitation import Invitation, grouped
from edge.till import keypair
from edge.till.enrolling import NotEnrolled, enrol
from edge.till.identity import Identity, NoIdentity
from tests.access.enrolment_rig import BUS_PORT, Turnable, a_request, gateway


async def test_a_till_enrols_and_is_the_lane_from_then_on(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-3")
        identity = await enrol(grouped(made.code).lower(), tmp_path / "till", **at.at)
        assert (identity.store, identity.lane, identity.bus_port) == ("S1", "lane-3", BUS_PORT)
        assert identity == Identity.load(tmp_path / "till")
        assert at.authority.newest("lane-3") is not None
        (entry,) = await at.audited("lane.enrolled")
        assert (entry["outcome"], entry["lane"]) == ("done", "lane-3")
        assert [e["lane"] for e in await at.audited("lane.invited")] == ["lane-3"]
        assert at.warnings.shown() == ()
    for name in ("identity.pem", "identity.json", "trusted.pem"):
        assert (tmp_path / "till" / name).stat().st_mode & 0o777 == 0o600
    context = identity.tls().context()
    assert isinstance(context, ssl.SSLContext), "OpenSSL takes the pair"
    on_disk = b"".join(file.read_bytes() for file in (tmp_path / "g").rglob("*") if file.is_file())
    assert made.code.encode() not in on_disk, "the code is kept nowhere"
    assert keys_of(made.code).till not in on_disk
    assert keys_of(made.code).gateway not in on_disk
    assert keypair.pem(keypair.read_key(identity.pem)) not in on_disk, "and the till's key never left it"


async def test_the_qr_code_says_where_and_who(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        text = Invitation(
            made.code, "S1", "lane-1", ("127.0.0.1",), at.listener.port, at.authority.fingerprint
        ).text()  # fmt: skip
        with pytest.raises(NotEnrolled, match="lane lane-1, this till is of lane lane-3") as wrong:
            await enrol(text, tmp_path / "till", lane="lane-3")
        assert wrong.value.code == "other_lane"
        assert (await enrol(text, tmp_path / "till")).lane == "lane-1"


async def refused(at: object, code: str, folder: Path, **where: object) -> str:
    with pytest.raises(NotEnrolled) as no:
        await enrol(code, folder, **where)  # type: ignore[arg-type]
    assert not folder.exists(), "nothing is kept of a gateway that was not proved"
    return no.value.code


async def test_an_invitation_ends_by_running_time_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        at.clock.wall = at.clock.wall.replace(year=at.clock.wall.year + 3)
        kept = await at.enrolment.outcome(made.name, 0)
        assert kept is not None
        assert kept.over is None, "a clock that jumps ahead kills none"
        at.clock.wall = at.clock.wall.replace(year=2021)
        at.clock.mono_ms += LIFE_S * 1000 - 1
        assert (await enrol(made.code, tmp_path / "t1", **at.at)).lane == "lane-1"
        late = await at.enrolment.invite("lane-1")
        at.clock.mono_ms += LIFE_S * 1000
        assert await refused(at, late.code, tmp_path / "t2", **at.at) == "invitation_expired"


async def test_an_invitation_lives_through_a_restart_of_edge_and_ends_with_a_reboot(tmp_path: Path) -> None:
    hands = Turnable()
    async with gateway(tmp_path / "g", turnable=hands) as at:
        one, other = await at.enrolment.invite("lane-1"), await at.enrolment.invite("lane-3")
    async with gateway(tmp_path / "g", turnable=hands) as at:
        assert (await enrol(one.code, tmp_path / "t1", **at.at)).lane == "lane-1"
    hands.mono_ms = 5
    async with gateway(tmp_path / "g", turnable=hands, boot="boot-2") as at:
        assert await refused(at, other.code, tmp_path / "t2", **at.at) == "invitation_expired"


async def test_the_newest_invitation_of_a_lane_is_the_only_one(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        first, second = await at.enrolment.invite("lane-1"), await at.enrolment.invite("lane-1")
        assert await refused(at, first.code, tmp_path / "t", **at.at) == "unknown_invitation"
        await at.enrolment.withdraw("lane-1")
        assert await refused(at, second.code, tmp_path / "t", **at.at) == "unknown_invitation"


def a_question(code: str, csr: str, server: str, *, store: str = "S1", lane: str = "lane-1") -> EnrolRequest:
    keys = keys_of(code)
    draft = EnrolRequest(
        v=1, invitation=keys.invitation, store=store, lane=lane, csr=csr, nonce="ab" * 32, proof="0" * 64
    )
    proof = prove(keys.till, protocol.till_transcript(draft, server))
    return draft.model_copy(update={"proof": proof})


async def test_a_lost_answer_is_given_again_and_only_to_the_same_question(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        server = (await at.ask("/v1/enrol", b"{}")).server
        _, csr = a_request()
        body = a_question(made.code, csr, server).model_dump_json().encode()
        first, again = await at.ask("/v1/enrol", body), await at.ask("/v1/enrol", body)
        assert (first.status, again.status) == (200, 200)
        assert first.table == again.table
        _, other = a_request()
        second = await at.ask("/v1/enrol", a_question(made.code, other, server).model_dump_json().encode())
        assert (second.status, second.table["code"]) == (403, "invitation_used")
        assert len(await at.audited("lane.enrolled")) == 2, "one done, one refused"
        assert len(at.authority.certificates()) == 1


async def test_proofs_that_do_not_hold_end_an_invitation_and_warn_people(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        _, csr = a_request()
        wrong = a_question(made.code, csr, "00" * 32).model_dump_json().encode()
        for _ in range(MAX_FAILURES):
            answer = await at.ask("/v1/enrol", wrong)
            assert (answer.status, answer.table["code"]) == (403, "not_proven")
        assert (await at.ask("/v1/enrol", wrong)).table["code"] == "invitation_blocked"
        assert await refused(at, made.code, tmp_path / "t", **at.at) == "invitation_blocked"
        (warning,) = at.warnings.shown()
        assert warning.code == WARNING
        assert "stands between the till of lane lane-1" in warning.text
        assert [e["outcome"] for e in await at.audited("lane.enrolled")][:5] == ["refused"] * 5
        assert await at.audited("lane.invitation_withdrawn")


@pytest.mark.parametrize(
    ("change", "code"),
    [({"store": "S2"}, "other_store"), ({"lane": "lane-3"}, "other_lane"), ({"csr": "no csr"}, "bad_csr")],
)
async def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict[str, str], code: str) -> None:
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        server = (await at.ask("/v1/enrol", b"{}")).server
        _, csr = a_request()
        question = a_question(made.code, **{"csr": csr, "server": server, **change})
        answer = await at.ask("/v1/enrol", question.model_dump_json().encode())
        assert answer.table["code"] == code
        good = await at.ask("/v1/enrol", a_question(made.code, csr, server).model_dump_json().encode())
        assert good.status == 200, "what was refused so used nothing up"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/enrol", b"", 400, "bad_request"),
        ("/v1/enrol", b"\xff", 400, "bad_request"),
        ("/v1/enrol", b'{"v": 2}', 400, "bad_request"),
        ("/v1/enrol", b"[" * 10_000, 400, "bad_request"),
        ("/v1/enrol", b"x" * 20_000, 413, "too_large"),
        ("/v1/renew", b'{"v": 1}', 400, "bad_request"),
        ("/v1/authority", b"{}", 404, "not_found"),
        ("/", b"{}", 404, "not_found"),
    ],
)
async def test_every_refusal_has_its_code(tmp_path: Path, path: str, body: bytes, status: int, code: str) -> None:
    async with gateway(tmp_path / "g") as at:
        answer = await at.ask(path, body)
        assert (answer.status, answer.table["code"]) == (status, code)
        assert answer.table["title"]


async def test_an_identity_that_others_could_read_is_told_and_stops_no_sale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NoIdentity, match="ask for an invitation"):
        Identity.load(tmp_path)
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        await enrol(made.code, tmp_path / "t", **at.at)
    (tmp_path / "t" / "identity.pem").chmod(0o644)
    assert Identity.load(tmp_path / "t").lane == "lane-1"
    assert (tmp_path / "t" / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert "until it is revoked" in caplog.text
