"""The store authority: what it signs, read by OpenSSL; what it keeps; and what is left when something is lost."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import threading
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from edge.access import authority_book
from edge.access.authority import LIFE, Authority, RotationOn
from edge.access.authority_keys import AuthorityFault
from edge.access.broker_identity import (
    MAX_NAMES,
    BrokerIdentity,
    ensure_broker_identity,
    names_of,
    open_authority,
    refresh,
    server_name,
    stand_in,
)
from edge.config import StoreConfig
from edge.seal import Keyring, Seal
from tests.access.keys import csr, lane_key, text_of, verified

NOW = datetime.datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


class Turnable:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def seal() -> Seal:
    return Seal(Keyring.new(), "authority")


def opened(folder: Path, seal: Seal | None, clock: Turnable | None = None) -> Authority:
    return Authority.open(folder / "access", seal, "0042", now=clock or Turnable())


def config_in(folder: Path) -> StoreConfig:
    return StoreConfig.model_validate(
        {"file": folder / "store.toml", "state_dir": folder, "store": {"id": "0042"}, "lanes": [{"id": "3"}]}
    )


def test_openssl_reads_in_a_lanes_certificate_what_the_page_says(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    issued = authority.issue_lane("3", csr(lane_key(), "someone else"))
    access = tmp_path / "access"
    said = verified(
        tmp_path, issued.pem, trusted=access / "trusted.pem", purpose="sslclient", crl=access / "revoked.crl"
    )
    assert said == "OK"
    text = text_of(issued.pem)
    assert "Subject: CN=3,O=0042" in text
    assert "URI:tillgate:0042:3" in text
    assert "ASN1 OID: prime256v1" in text
    assert "CA:FALSE" in text
    assert "TLS Web Client Authentication" in text
    assert "TLS Web Server" not in text
    assert "Not Before: Jan  1 00:00:00 1970 GMT" in text
    assert "Not After : Feb 23 09:00:00 2027 GMT" in text
    assert issued.not_after == NOW + LIFE


def test_openssl_reads_in_the_brokers_certificate_what_the_page_says(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    identity = ensure_broker_identity(config)
    assert identity.fault is None
    chain = identity.certificate.read_text()
    said = verified(tmp_path, chain, trusted=identity.trusted, purpose="sslserver", crl=identity.revoked)
    assert said == "OK"
    text = text_of(chain)
    for name in names_of(config):
        assert name in text or ":" in name, name
    assert f"DNS:{server_name('0042')}" in text
    assert "IP Address:127.0.0.1" in text
    assert "TLS Web Server Authentication" in text
    assert "TLS Web Client" not in text


def test_the_authoritys_key_lies_nowhere_in_plain(tmp_path: Path) -> None:
    identity = ensure_broker_identity(config_in(tmp_path))
    for file in (tmp_path / "access").iterdir():
        assert b"PRIVATE KEY" not in file.read_bytes(), file
        assert file.stat().st_mode & 0o077 == 0, file
    assert identity.key.stat().st_mode & 0o077 == 0


def test_the_same_request_again_gets_the_same_certificate(tmp_path: Path, seal: Seal) -> None:
    clock = Turnable()
    authority = opened(tmp_path, seal, clock)
    request = csr(lane_key())
    first = authority.issue_lane("3", request)
    assert authority.issue_lane("3", request) == first
    clock.now += LIFE * 3 / 4
    later = authority.issue_lane("3", request)
    assert later.serial != first.serial
    assert later.not_after == clock.now + LIFE
    assert [entry.certificate is not None for entry in authority.certificates()] == [False, True]


def test_what_is_issued_and_revoked_is_there_after_a_restart(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    issued = authority.issue_lane("3", csr(lane_key()))
    other = authority.issue_lane("4", csr(lane_key()))
    (gone,) = authority.revoke_lane("3", "the till was stolen")
    assert gone.serial == issued.serial
    assert authority.revoke_lane("3", "again") == ()
    again = opened(tmp_path, seal)
    assert again.fingerprint == authority.fingerprint
    assert again.newest("3") is None
    access = tmp_path / "access"
    files = {"trusted": access / "trusted.pem", "crl": access / "revoked.crl"}
    assert "certificate revoked" in verified(tmp_path, issued.pem, purpose="sslclient", **files)
    assert verified(tmp_path, other.pem, purpose="sslclient", **files) == "OK"


def test_a_list_of_revoked_certificates_depends_on_no_clock(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    issued = authority.issue_lane("3", csr(lane_key()))
    access = tmp_path / "access"
    for year in (1971, 2016, 2026):
        at = int(datetime.datetime(year, 6, 1, tzinfo=UTC).timestamp())
        said = verified(
            tmp_path, issued.pem, trusted=access / "trusted.pem", purpose="sslclient", crl=access / "revoked.crl", at=at
        )
        assert said == "OK", year
    # Each list is later than the one before, whatever the clock does in between.
    updates = []
    for lane in ("5", "6"):
        authority.issue_lane(lane, csr(lane_key()))
        authority.revoke_lane(lane, "gone")
        shown = ["openssl", "crl", "-in", str(access / "revoked.crl"), "-noout", "-lastupdate", "-nextupdate"]
        updates.append(subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines())
    assert updates[0][0] == "lastUpdate=Jan  1 00:00:02 1970 GMT"
    assert updates[1][0] == "lastUpdate=Jan  1 00:00:03 1970 GMT"
    assert updates[0][1] == updates[1][1] == "nextUpdate=Dec 31 23:59:59 9999 GMT"


def test_after_a_rotation_old_and_new_believe_each_other(tmp_path: Path, seal: Seal) -> None:
    clock = Turnable()
    authority = opened(tmp_path, seal, clock)
    before = authority.issue_lane("3", csr(lane_key()))
    waiting = authority.issue_lane("4", csr(lane_key()))
    only_old = authority.trusted()
    made = authority.rotate()
    assert authority.fingerprint == made.fingerprint != authority.advertised
    assert authority.following() == {"3": False, "4": False}
    after = authority.issue_lane("3", csr(lane_key()))
    assert authority.following() == {"3": True, "4": False}
    access = tmp_path / "access"
    crl = access / "revoked.crl"
    both = authority.trusted()
    for chain in (before.pem, waiting.pem, after.pem):
        assert verified(tmp_path, chain, trusted=both, purpose="sslclient", crl=crl) == "OK"
    # A broker started before the rotation believes only the old one; the new chain carries the cross certificate.
    assert verified(tmp_path, after.pem, trusted=only_old, purpose="sslclient", crl=crl) == "OK"
    authority.issue_server(("till.example",), tmp_path / "broker.pem")
    server = (tmp_path / "broker.pem").read_text()
    assert verified(tmp_path, server, trusted=only_old, purpose="sslserver") == "OK"
    # Both authorities can still revoke.
    authority.revoke_lane("4", "gone")
    assert "certificate revoked" in verified(tmp_path, waiting.pem, trusted=both, purpose="sslclient", crl=crl)
    with pytest.raises(RotationOn, match="90 more days"):
        authority.rotate()

    authority.drop_former()
    assert authority.advertised == authority.fingerprint
    authority.issue_server(("till.example",), tmp_path / "broker.pem")
    server = (tmp_path / "broker.pem").read_text()
    assert "unable to get" in verified(tmp_path, server, trusted=only_old, purpose="sslserver")
    now = authority.trusted()
    assert verified(tmp_path, server, trusted=now, purpose="sslserver") == "OK"
    assert verified(tmp_path, after.pem, trusted=now, purpose="sslclient", crl=crl) == "OK"
    assert "unable to get" in verified(tmp_path, before.pem, trusted=now, purpose="sslclient", crl=crl)


def test_a_crash_between_the_book_and_its_files_is_mended(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    authority.issue_lane("3", csr(lane_key()))
    authority.rotate()
    authority.revoke_lane("3", "gone")
    access = tmp_path / "access"
    made = {name: (access / name).read_bytes() for name in ("authority.pem", "trusted.pem", "revoked.crl")}
    for name, content in made.items():
        for broken in (b"", content[: len(content) // 2], None):
            if broken is None:
                (access / name).unlink()
            else:
                (access / name).write_bytes(broken)
            opened(tmp_path, seal)
            assert (access / name).read_bytes() == content, name


def test_the_second_copy_stands_in_for_a_damaged_book(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    authority.issue_lane("3", csr(lane_key()))
    book = tmp_path / "access" / authority_book.FILE
    book.write_bytes(book.read_bytes()[:200])
    again = opened(tmp_path, seal)
    assert again.fault is None
    assert again.fingerprint == authority.fingerprint
    again.issue_lane("4", csr(lane_key()))
    assert [entry.lane for entry in opened(tmp_path, seal).certificates()] == ["3", "4"]


def test_a_bit_that_is_lost_in_the_book_is_noticed_and_made_good_from_its_copy(tmp_path: Path, seal: Seal) -> None:
    authority = opened(tmp_path, seal)
    authority.issue_lane("3", csr(lane_key()))
    book = tmp_path / "access" / authority_book.FILE
    whole = book.read_bytes()
    inside = whole.index(b"MII") + 40  # of a certificate: it is readable JSON all the same
    for at in (inside, whole.index(b'"key"') + 20, whole.index(b'"lane"') + 9):
        book.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        again = opened(tmp_path, seal)
        assert again.fault is None
        assert book.read_bytes() == whole
    for name in (authority_book.FILE, authority_book.COPY):
        (tmp_path / "access" / name).write_bytes(whole[:inside] + b"#" + whole[inside + 1 :])
    broken = opened(tmp_path, seal)
    assert broken.fault is not None
    assert "not what was written" in broken.fault


@pytest.mark.parametrize("name", ["authority.json", "authority.pem", "trusted.pem", "revoked.crl", "../run/broker.pem"])
def test_a_folder_in_the_place_of_a_file_keeps_neither_broker_nor_authority_from_working(
    tmp_path: Path, name: str
) -> None:
    config = config_in(tmp_path)
    ensure_broker_identity(config)
    file = config.access_dir / name
    file.unlink()
    (file / "within").mkdir(parents=True)
    identity = ensure_broker_identity(config)
    assert identity.fault is None
    assert file.is_file()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate)
    context.load_verify_locations(identity.trusted)
    context.load_verify_locations(identity.revoked)
    assert open_authority(config).issue_lane("1", csr(lane_key())).lane == "1"


def test_a_spoilt_certificate_that_nobody_can_sign_anew_is_stood_in_for(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    identity = ensure_broker_identity(config)
    identity.certificate.write_bytes(identity.certificate.read_bytes()[:300])
    identity.revoked.write_text("spoilt")
    (tmp_path / "seal.key").unlink()
    for name in (authority_book.FILE, authority_book.COPY):
        (config.access_dir / name).write_text("spoilt")
    assert ensure_broker_identity(config).fault is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate)
    context.load_verify_locations(identity.trusted)
    context.load_verify_locations(identity.revoked)


def test_what_stood_in_before_there_was_an_authority_does_not_keep_it_from_being_made(tmp_path: Path) -> None:
    """The very first start is on a disk that takes no key: nobody has to mend anything once it does."""
    config = config_in(tmp_path)
    stand_in(config)
    assert Authority.open(config.access_dir, None, config.store.id).fault is not None
    identity = ensure_broker_identity(config)
    assert identity.fault is None
    assert open_authority(config).issue_lane("1", csr(lane_key())).lane == "1"
    assert "Nobody" not in identity.trusted.read_text()


def test_a_book_that_is_lost_is_not_made_again_behind_peoples_backs(tmp_path: Path, seal: Seal) -> None:
    former = opened(tmp_path, seal).fingerprint
    access = tmp_path / "access"
    trusted = (access / "trusted.pem").read_text()
    for name in (authority_book.FILE, authority_book.COPY):
        (access / name).write_text("{}")
    broken = opened(tmp_path, seal)
    assert broken.fault is not None
    assert "--anew" in broken.fault
    with pytest.raises(AuthorityFault, match="damaged"):
        broken.issue_lane("3", csr(lane_key()))
    assert (access / "trusted.pem").read_text() == trusted
    for name in (authority_book.FILE, authority_book.COPY):
        (access / name).unlink()
    gone = opened(tmp_path, seal)
    assert gone.fault is not None
    assert "is gone" in gone.fault
    anew = gone.begin_anew()
    assert anew.fingerprint != former
    assert gone.fault is None
    assert gone.issue_lane("3", csr(lane_key())).lane == "3"


def test_without_the_stores_key_the_broker_starts_and_nothing_is_signed(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    before = ensure_broker_identity(config)
    chain = before.certificate.read_text()
    (tmp_path / "seal.key").unlink()
    after = ensure_broker_identity(config)
    assert after.fault is not None
    assert "key" in after.fault
    assert after.certificate.read_text() == chain
    after.certificate.unlink()
    stand_in = ensure_broker_identity(config)
    assert stand_in.certificate.exists()
    said = verified(tmp_path, stand_in.certificate.read_text(), trusted=stand_in.trusted, purpose="sslserver")
    assert "unable to get" in said, "a certificate that no till believes"


def test_without_the_stores_key_a_lane_is_revoked_all_the_same_and_listed_when_the_key_is_back(
    tmp_path: Path, seal: Seal
) -> None:
    issued = opened(tmp_path, seal).issue_lane("3", csr(lane_key()))
    locked = opened(tmp_path, Seal(Keyring.new(), "authority"))
    with pytest.raises(AuthorityFault, match="nothing is taken from it"):
        locked.revoke_lane("3", "stolen")
    assert locked.lanes()["3"].state == "revoked"
    files = {"trusted": tmp_path / "access" / "trusted.pem", "crl": tmp_path / "access" / "revoked.crl"}
    assert verified(tmp_path, issued.pem, purpose="sslclient", **files) == "OK", "the broker does not know it yet"
    assert opened(tmp_path, seal).fault is None
    assert "certificate revoked" in verified(tmp_path, issued.pem, purpose="sslclient", **files)


def test_another_stores_authority_is_not_used(tmp_path: Path, seal: Seal) -> None:
    opened(tmp_path, seal)
    other = Authority.open(tmp_path / "access", seal, "0043")
    assert other.fault is not None
    assert "store 0042" in other.fault
    with pytest.raises(AuthorityFault):
        other.issue_lane("3", csr(lane_key()))


def test_a_new_key_of_the_store_seals_the_authoritys_key_again(tmp_path: Path) -> None:
    keyring = Keyring.new()
    authority = opened(tmp_path, Seal(keyring, "authority"))
    newer = keyring.with_new_key()
    again = opened(tmp_path, Seal(newer, "authority"))
    assert again.fault is None
    only_new = Keyring((newer.current,))
    last = opened(tmp_path, Seal(only_new, "authority"))
    assert last.fault is None
    assert last.fingerprint == authority.fingerprint


def test_the_broker_gets_a_new_certificate_when_it_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_in(tmp_path)
    first = ensure_broker_identity(config).certificate.read_text()
    assert ensure_broker_identity(config).certificate.read_text() == first
    # another file in its place
    identity = BrokerIdentity.of(tmp_path)
    identity.certificate.write_text(first[: len(first) // 2])
    second = ensure_broker_identity(config).certificate.read_text()
    assert second != first
    # a name that this box did not have before
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    third = ensure_broker_identity(config).certificate.read_text()
    assert "DNS:renamed" in text_of(third)


def test_the_broker_gets_a_new_certificate_at_two_thirds_of_its_life(tmp_path: Path, seal: Seal) -> None:
    clock, config, identity = Turnable(), config_in(tmp_path), BrokerIdentity.of(tmp_path)
    identity.certificate.parent.mkdir()
    authority = opened(tmp_path, seal, clock)
    assert refresh(authority, config, identity)
    clock.now += timedelta(days=59)
    assert not refresh(authority, config, identity)
    clock.now += timedelta(days=2)
    assert refresh(authority, config, identity)
    assert not refresh(authority, config, identity)


def test_an_address_that_comes_and_goes_asks_for_one_new_certificate(
    tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, identity = config_in(tmp_path), BrokerIdentity.of(tmp_path)
    identity.certificate.parent.mkdir()
    authority = opened(tmp_path, seal)
    refresh(authority, config, identity)
    given = []
    for name in ("here", "there", "here", "there", "here"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        given.append(refresh(authority, config, identity))
    assert given == [True, True, False, False, False]
    for number in range(100):
        monkeypatch.setattr("socket.gethostname", lambda number=number: f"host-{number}")
        refresh(authority, config, identity)
    assert authority.book is not None
    assert authority.book.server is not None
    assert len(authority.book.server.names) <= MAX_NAMES
    assert "host-99" in authority.book.server.names


def test_a_clock_that_is_behind_does_not_shorten_what_tills_with_right_clocks_see(tmp_path: Path, seal: Seal) -> None:
    clock = Turnable()
    authority = opened(tmp_path, seal, clock)
    right = authority.issue_server(("a",), tmp_path / "broker.pem")
    clock.now = datetime.datetime(2016, 1, 1, tzinfo=UTC)
    behind = authority.issue_server(("a", "b"), tmp_path / "broker.pem")
    assert behind.not_after == right.not_after
    assert authority.issue_lane("3", csr(lane_key())).not_after == NOW + LIFE
    clock.now = NOW + timedelta(days=400)
    ahead = authority.issue_server(("a",), tmp_path / "broker.pem")
    clock.now = NOW
    assert authority.issue_server(("a",), tmp_path / "broker.pem", synced=True).not_after < ahead.not_after


def test_two_processes_that_begin_at_once_make_one_authority(tmp_path: Path, seal: Seal) -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(opened(tmp_path, seal).fingerprint)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1

    # and none of them sees half of what another writes
    def issue(lane: str) -> None:
        opened(tmp_path, seal).issue_lane(lane, csr(lane_key()))

    threads = [threading.Thread(target=issue, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.lane for entry in opened(tmp_path, seal).certificates()} == {str(number) for number in range(8)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_nothing_is_told(tmp_path: Path, seal: Seal) -> None:
    opened(tmp_path, seal)
    (tmp_path / "access").chmod(0o500)
    try:
        authority = opened(tmp_path, seal)
        with pytest.raises(PermissionError):
            authority.issue_lane("3", csr(lane_key()))
    finally:
        (tmp_path / "access").chmod(0o700)
