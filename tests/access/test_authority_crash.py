"""The power goes at any moment of a change of the authority: what is left works, the old state or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.access.authority import Authority, Revoked
from edge.seal import Keyring, Seal
from tests.access.keys import csr, lane_key, verified

STORE = "0042"


class PowerCut(BaseException):
    """Nothing catches it; nothing that comes after is done."""


@contextlib.contextmanager
def cut_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """The power goes at file operation `number` (from 0): before a file is renamed into place, or just after."""
    real, done = os.replace, 0

    def replace(draft: Path, path: Path) -> None:
        nonlocal done
        moment, done = done, done + 2
        if moment == number:
            raise PowerCut
        real(draft, path)
        if moment + 1 == number:
            raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        yield


def changes() -> dict[str, Callable[[Authority, Path], object]]:
    """Every change there is of an authority, on a store that has lanes 1 and 2."""
    return {
        "issue": lambda authority, folder: authority.issue_lane("1", csr(lane_key())),
        "revoke": lambda authority, folder: authority.revoke_lane("2", "stolen"),
        "rotate": lambda authority, folder: authority.rotate(),
        "drop": lambda authority, folder: authority.drop_former(),
        "server": lambda authority, folder: authority.issue_server(("a",), folder / "broker.pem"),
        "hours": lambda authority, folder: authority.pass_hours(5),
    }


@pytest.mark.parametrize("name", changes())
def test_the_power_goes_at_any_moment_of_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seal = Seal(Keyring.new(), "authority")
    moments = 0
    for moment in range(40):
        folder = tmp_path / str(moment)
        folder.mkdir()
        authority = Authority.open(folder / "access", seal, STORE)
        first = authority.issue_lane("1", csr(lane_key()))
        if name in ("drop", "hours"):
            authority.rotate()
            first = authority.issue_lane("1", csr(lane_key()))
        second_key = lane_key()
        second = authority.issue_lane("2", csr(second_key))
        authority.issue_server(("a",), folder / "broker.pem")
        before = authority.book
        cut = False
        try:
            with cut_at(monkeypatch, moment):
                changes()[name](authority, folder)
        except PowerCut:
            cut = True
            moments += 1
        again = Authority.open(folder / "access", seal, STORE)
        assert again.fault is None
        assert not list((folder / "access").glob("*.former-*"))
        access = folder / "access"
        files = {"trusted": access / "trusted.pem", "crl": access / "revoked.crl"}
        # Who was let in still is, unless it was revoked; and that is so for the files as for the book.
        assert verified(folder, first.pem, purpose="sslclient", **files) == "OK"
        revoked = again.lanes()["2"].state == "revoked"
        assert verified(folder, second.pem, purpose="sslclient", **files) == "OK" or revoked
        if revoked:
            assert name == "revoke"
            assert "certificate revoked" in verified(folder, second.pem, purpose="sslclient", **files)
            with pytest.raises(Revoked):
                again.issue_lane("2", csr(second_key))
        # The broker has a whole pair, by an authority that is believed.
        text = (folder / "broker.pem").read_text()
        server = text[text.index("-----BEGIN CERTIFICATE") :]
        assert verified(folder, server, trusted=files["trusted"], purpose="sslserver") == "OK"
        # And everything goes on from there.
        third = again.issue_lane("3", csr(lane_key()))
        assert verified(folder, third.pem, purpose="sslclient", **files) == "OK"
        if not cut:
            assert again.book != before
            break
    else:
        raise AssertionError("it never came to an end")
    assert moments >= 4
