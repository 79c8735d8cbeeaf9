"""What somebody on the store's network can try when a till enrols, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from pathlib import Path

import pytest

from edge.access.enrolment import GUESSES, WARNING
from edge.access.enrolment_listener import Limits
from edge.bus.enrolment import RenewRequest, keys_of, renewal_transcript, sha256
from edge.bus.invitation import new_code
from edge.till import keypair
from edge.till.enrolling import NotEnrolled, enrol
from edge.till.https import asking
from tests.access.enrolment_rig import Between, a_request, anybody, gateway, own_server
from tests.access.test_enrolment import a_question
from tests.edge.bus_rig import until


async def test_attack_replayed_enrolment_code(tmp_path: Path) -> None:
    """A code that was used is tried again from another device: refused, whoever he is, and written down."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        await enrol(made.code, tmp_path / "till", **at.at)
        with pytest.raises(NotEnrolled) as no:
            await enrol(made.code, tmp_path / "thief", **at.at)
        assert no.value.code == "invitation_used"
        assert not (tmp_path / "thief").exists()
        assert [entry["outcome"] for entry in await at.audited("lane.enrolled")] == ["done", "refused"]
        assert len(at.authority.certificates()) == 1


async def test_attack_replayed_enrolment_question(tmp_path: Path) -> None:
    """The very bytes of a till's question are sent again: the same answer, of use to nobody without the till's key."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        server = (await at.ask("/v1/enrol", b"{}")).server
        key, csr = a_request()
        body = a_question(made.code, csr, server).model_dump_json().encode()
        first, replayed = await at.ask("/v1/enrol", body), await at.ask("/v1/enrol", body)
        assert replayed.table == first.table
        assert keypair.belongs(str(replayed.table["certificate"]), csr), "still for the key that the till has"
        assert len(at.authority.certificates()) == 1
        # ... and when the gateway has another certificate by then, the old proof is worth nothing at all.
        at.authority.issue_server(("127.0.0.1",), at.folder / "run" / "broker.pem")
        assert (await at.ask("/v1/enrol", body)).table["code"] == "invitation_used"
        assert key


async def test_attack_code_guessed(tmp_path: Path) -> None:
    """Codes are tried one after the other: none is known, people are told, the rate is bounded, the odds hopeless."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        server = (await at.ask("/v1/enrol", b"{}")).server
        _, csr = a_request()
        for _ in range(GUESSES):
            guess = a_question(new_code(at.authority.fingerprint), csr, server)
            answer = await at.ask("/v1/enrol", guess.model_dump_json().encode())
            assert answer.table["code"] == "unknown_invitation"
        (warning,) = at.warnings.shown()
        assert (warning.code, "guessed" in warning.text) == (WARNING, True)
        assert (await enrol(made.code, tmp_path / "till", **at.at)).lane == "lane-1", "the true code still works"
        told = await at.audited("lane.enrolled")
        assert len(told) < GUESSES + 1, "many refusals are counted, not each written"
    limits = Limits()
    rate_per_s, burst = limits.opened
    online = (burst + rate_per_s * 15 * 60) / 2**80
    assert online < 1e-18, "on line, with all that the listener takes in 15 minutes"
    offline = 1e12 * 15 * 60 / 2**80
    assert offline < 1e-8, "off line, by who ends TLS and hears a question, at 10^12 HMACs a second"


async def test_attack_code_guessed_faster_than_the_listener_takes(tmp_path: Path) -> None:
    """One address asks more often than any till would: it hears too_fast, with the time to wait."""
    async with gateway(tmp_path / "g", limits=Limits(asked=(0.01, 3))) as at:
        answers = [await at.ask("/v1/enrol", b"{}") for _ in range(5)]
        assert [answer.status for answer in answers] == [400, 400, 400, 429, 429]
        assert answers[-1].table["code"] == "too_fast"
        assert int(str(answers[-1].table["retry_after_ms"])) > 1_000


async def test_attack_man_in_the_middle_at_enrolment(tmp_path: Path) -> None:
    """Somebody ends the till's TLS with a certificate of his own and passes everything on: both proofs break."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        async with Between(at.listener.port, server=own_server(tmp_path)) as man:
            with pytest.raises(NotEnrolled) as no:
                await enrol(made.code, tmp_path / "till", host="127.0.0.1", port=man.port)
            assert no.value.code == "not_proven"
            assert b'"csr"' in man.heard, "he read all of it ..."
            assert made.code.encode() not in man.heard, "... and the code was not in it"
        assert not (tmp_path / "till").exists()
        assert at.authority.certificates() == ()
        (warning,) = at.warnings.shown()
        assert "stands between the till of lane lane-1" in warning.text
        (entry,) = await at.audited("lane.enrolled")
        assert entry["outcome"] == "refused"
        assert entry["detail"].startswith("not_proven")
        assert (await enrol(made.code, tmp_path / "till", **at.at)).lane == "lane-1", "past him, the code still works"


async def test_attack_man_in_the_middle_who_forwards_bytes(tmp_path: Path) -> None:
    """A relay passes every byte on, unchanged: TLS goes from end to end through it, it learns nothing."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        async with Between(at.listener.port) as man:
            identity = await enrol(made.code, tmp_path / "till", host="127.0.0.1", port=man.port)
            assert b"csr" not in man.heard
            assert identity.lane.encode() not in man.said
            assert keys_of(made.code).invitation.encode() not in man.heard


async def test_attack_csr_swapped_on_the_way(tmp_path: Path) -> None:
    """The man in the middle puts his own key's request in the till's question: the proof is not of that one."""
    key, evil_csr = a_request()

    def swap(data: bytes) -> bytes:
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            return data
        table = json.loads(body)
        text = json.dumps({**table, "csr": evil_csr}).encode()
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return b"\r\n".join([*lines, f"content-length: {len(text)}".encode()]) + b"\r\n\r\n" + text

    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        # Even with the gateway's own certificate and key (which he has not): so that nothing but the request differs.
        async with Between(at.listener.port, server=at.folder / "run" / "broker.pem", change=swap) as man:
            with pytest.raises(NotEnrolled) as no:
                await enrol(made.code, tmp_path / "till", host="127.0.0.1", port=man.port)
        assert no.value.code == "not_proven"
        assert at.authority.certificates() == ()
        assert key


async def test_attack_certificate_swapped_on_the_way_back(tmp_path: Path) -> None:
    """Somebody puts another authority in the answer, for the till to believe: the gateway's proof is not of it."""
    async with gateway(tmp_path / "g") as at, gateway(tmp_path / "evil") as evil:

        def swap(data: bytes) -> bytes:
            head, found, body = data.partition(b"\r\n\r\n")
            if not found:
                return data
            text = json.dumps({**json.loads(body), "trusted": evil.authority.trusted()}).encode()
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
            return b"\r\n".join([*lines, f"content-length: {len(text)}".encode()]) + b"\r\n\r\n" + text

        made = await at.enrolment.invite("lane-1")
        server = at.folder / "run" / "broker.pem"
        async with Between(at.listener.port, server=server, change_back=swap) as man:
            with pytest.raises(NotEnrolled) as no:
                await enrol(made.code, tmp_path / "till", host="127.0.0.1", port=man.port)
        assert no.value.code == "not_genuine"
        assert not (tmp_path / "till").exists()


async def test_attack_gateway_impersonated(tmp_path: Path) -> None:
    """Somebody answers in the gateway's place and says yes to everything: he cannot prove that he knows the code."""
    async with gateway(tmp_path / "g") as at, gateway(tmp_path / "evil", store_id="S1") as evil:
        made = await at.enrolment.invite("lane-1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own_server(tmp_path))

        async def yes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            question = await reader.readuntil(b"}")
            table = json.loads(question.partition(b"\r\n\r\n")[2])
            issued = evil.authority.issue_lane("lane-1", table["csr"].encode())
            text = json.dumps(
                {
                    "store": "S1", "lane": "lane-1", "certificate": issued.pem, "trusted": evil.authority.trusted(),
                    "not_after": "2030-01-01T00:00:00Z", "server_name": "evil", "bus_port": 1, "nonce": "00" * 32,
                    "proof": sha256(question),
                }
            ).encode()  # fmt: skip
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(yes, "127.0.0.1", 0, ssl=context)
        try:
            with pytest.raises(NotEnrolled, match="somebody stands between") as no:
                await enrol(
                    made.code, tmp_path / "till", host="127.0.0.1", port=server.sockets[0].getsockname()[1]
                )  # fmt: skip
        finally:
            server.close()
        assert no.value.code == "not_genuine"
        assert not (tmp_path / "till").exists()


async def test_attack_invitation_for_another_store(tmp_path: Path) -> None:
    """A code of one store is tried at another of the same chain: it is unknown there, and lets nobody in."""
    async with gateway(tmp_path / "a", store_id="S1") as one, gateway(tmp_path / "b", store_id="S2") as two:
        made = await one.enrolment.invite("lane-1")
        with pytest.raises(NotEnrolled) as no:
            await enrol(made.code, tmp_path / "till", **two.at)
        assert no.value.code == "unknown_invitation"
        with pytest.raises(NotEnrolled) as no:
            await enrol(made.code, tmp_path / "till", store="S1", **two.at)
        assert no.value.code == "other_store"
        assert two.authority.certificates() == ()


async def test_attack_renewal_with_somebody_elses_certificate(tmp_path: Path) -> None:
    """A lane's certificate, which is public, is shown with a request of his own: not signed by its key, refused."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        identity = await enrol(made.code, tmp_path / "till", **at.at)
        key, csr = a_request()
        body = {
            "v": 1, "certificate": keypair.certificate_of(identity.pem), "csr": csr, "nonce": "00" * 32,
            "signature": keypair.sign(key, b"whatever"),
        }  # fmt: skip
        answer = await at.ask("/v1/renew", json.dumps(body).encode())
        assert answer.table["code"] == "not_proven"
        assert len(at.authority.certificates()) == 1


async def test_attack_a_till_that_renews_without_end(tmp_path: Path) -> None:
    """A till that was taken over asks for a certificate after the other, each kept for good: refused after a few."""
    async with gateway(tmp_path / "g") as at:
        made = await at.enrolment.invite("lane-1")
        identity = await enrol(made.code, tmp_path / "till", **at.at)
        old = keypair.read_key(identity.pem)

        async def renewed() -> str:
            _, csr = a_request()
            request = RenewRequest(
                v=1, certificate=keypair.certificate_of(identity.pem), csr=csr, nonce="00" * 32, signature="x" * 8
            )
            async with asking("127.0.0.1", at.listener.port, anybody(), server_name=None, within_s=20.0) as there:
                signature = keypair.sign(old, renewal_transcript(request, there.server))
                body = request.model_copy(update={"signature": signature}).model_dump_json().encode()
                answer = await there.post("/v1/renew", body, "gateway")
            return str(answer.table.get("code", "renewed"))

        said = [await renewed() for _ in range(30)]
        assert said == ["renewed"] * 24 + ["too_fast"] * 6
        assert len(at.authority.certificates()) == 25


async def test_attack_one_address_opens_connections_without_end(tmp_path: Path) -> None:
    """It uses up what its own address may open, not what everybody may: other machines' tills get in."""
    limits = Limits(opened=(0.001, 30), opened_by_address=(0.001, 10))
    async with gateway(tmp_path / "g", limits=limits) as at:
        for _ in range(40):
            _, writer = await asyncio.open_connection("127.0.0.1", at.listener.port)
            writer.transport.abort()
        await until(lambda: at.listener.counts.closed_at_once == 30)
        _, writer = await asyncio.open_connection("127.0.0.1", at.listener.port, local_addr=("127.0.0.7", 0))
        await until(lambda: at.listener.counts.taken == 11)
        writer.transport.abort()


FLOODED = Limits(
    handshake_s=0.6,
    whole_s=1.2,
    connections=6,
    connections_of_address=6,
    opened=(1_000.0, 10_000),
    opened_by_address=(1_000.0, 10_000),
)


async def test_attack_slow_strangers_at_the_listener(tmp_path: Path) -> None:
    """Connections that say nothing, or a byte now and then, take every place: each is cut in seconds, tills get in."""
    async with gateway(tmp_path / "g", limits=FLOODED) as at:
        made = await at.enrolment.invite("lane-1")
        mute = [await asyncio.open_connection("127.0.0.1", at.listener.port) for _ in range(3)]
        slow = [await asyncio.open_connection("127.0.0.1", at.listener.port, ssl=anybody()) for _ in range(3)]

        async def drip(writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                for byte in b"POST /v1/enrol HTTP/1.1\r\n" * 100:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)

        dripping = [asyncio.create_task(drip(writer)) for _, writer in slow]
        reader, writer = await asyncio.open_connection("127.0.0.1", at.listener.port)
        assert await reader.read(1) == b"", "there is no place: closed at once, before TLS"
        assert at.listener.counts.closed_at_once == 1
        for one, _ in (*mute, *slow):
            with contextlib.suppress(OSError):
                await asyncio.wait_for(one.read(), 20.0)  # until the gateway hangs up
        assert (await enrol(made.code, tmp_path / "till", **at.at)).lane == "lane-1"
        for task in dripping:
            task.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)
        for _, one in (*mute, *slow, (reader, writer)):
            one.transport.abort()


async def test_attack_huge_requests_at_the_listener(tmp_path: Path) -> None:
    """Endless heads, bodies and chunks: refused as soon as they are above the limit, without being kept."""
    async with gateway(tmp_path / "g") as at:
        endless = b"x" * 1_000_000
        for start in (
            b"GET / HTTP/1.1\r\nhost: g\r\nx: ",
            b"POST /v1/enrol HTTP/1.1\r\nhost: g\r\ncontent-length: 999999999\r\n\r\n",
            b"POST /v1/enrol HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n",
            b"POST /" + endless,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.listener.port, ssl=anybody())
            with contextlib.suppress(OSError):
                writer.write(start + endless)
                await writer.drain()
                answer = await asyncio.wait_for(reader.read(), 20.0)
                assert b"too_large" in answer
            writer.transport.abort()
        assert await until(lambda: at.listener.counts.refused["too_large"] == 4)


async def test_attack_rubbish_at_the_listener(tmp_path: Path) -> None:
    """Plain HTTP, other protocols, half a TLS hello: hung up on, nothing said, the listener goes on."""
    async with gateway(tmp_path / "g", limits=FLOODED) as at:
        made = await at.enrolment.invite("lane-1")
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x10\x0c\0\4MQTT\5\2\0\n\0\0\0",
            b"\x16\x03\x01\x02\0\1",
            b"\0" * 5_000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.listener.port)
            writer.write(said)
            with contextlib.suppress(OSError):
                await asyncio.wait_for(reader.read(), 20.0)
            writer.transport.abort()
        assert (await enrol(made.code, tmp_path / "till", **at.at)).lane == "lane-1"
