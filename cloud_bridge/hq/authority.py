"""HQ's authority for stores: who may talk to the cloud broker, and as which store. Its key is not where receivers are.

    DIR/authority.pem   its certificate: the cloud broker's `cafile`
    DIR/authority.key   its key (0600): keep it where `tillgate hq authority ...` is run, and nowhere else
    DIR/issued.json     what it has signed, and what is revoked
    DIR/revoked.crl     the cloud broker's `crlfile`

Strategy: stores ask through the link; receivers only write the question into the database, where nobody needs the key.
`answer` checks each: the present certificate is of this authority, for that store, not revoked, and its key has signed
the request; only the date it may have passed. What stands in certificates: `edge.access.certificates`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.access import certificates
from edge.access.certificates import BadCertificate, BadRequest
from edge.bus.messages.renewal import PROOF, CertificateRequest
from edge.bus.topics import ID_PATTERN
from edge.seal import write_secret

DAYS = 365
"""A store that is cut off for a third of it can still come back by itself."""


class BadAuthority(ValueError):
    """The authority cannot be made or used; the text says why."""


class StoresAuthority:
    """The authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.certificate = (folder / "authority.pem").read_text(encoding="ascii")
            self._signer = certificates.Signer(self.certificate, (folder / "authority.key").read_bytes())
            self._chain = str(self._read()["chain"])
        except (OSError, ValueError) as error:
            raise BadAuthority(f"no authority in {folder}: {error}; `tillgate hq authority init {folder}`") from None

    @classmethod
    def make(cls, folder: Path, chain: str) -> StoresAuthority:
        """A new one for `chain`; BadAuthority when there is one."""
        if (folder / "authority.key").exists():
            raise BadAuthority(f"{folder} has an authority already: all stores hang on its key, it is not replaced")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = certificates.make_authority(chain)
        write_secret(folder / "authority.key", made.key)
        write_secret(folder / "issued.json", json.dumps({"chain": chain, "lists": 0, "issued": []}).encode())
        (folder / "authority.pem").write_text(made.certificate, encoding="ascii")
        one = cls(folder)
        with one._changing():
            return one

    @property
    def issued(self) -> list[dict[str, Any]]:
        """What was signed, in order: store, serial, until, revoked."""
        return list(self._read()["issued"])

    def issue(self, store: str, csr: str, days: float = DAYS) -> tuple[str, str]:
        """A certificate for `store` and when it is to be renewed (RFC 3339). BadRequest."""
        import re

        from cryptography import x509

        if not re.match(ID_PATTERN, store):
            raise BadRequest(f"{store!r} is no store's id")
        key = certificates.csr_key(csr.encode())
        now = datetime.now(UTC)
        serial, until = x509.random_serial_number(), now + timedelta(days=days)
        made = self._signer.lane(self._chain, store, key, serial, until)
        entry = {"store": store, "serial": format(serial, "x"), "until": _utc(until), "revoked": False}
        with self._changing() as book:
            book["issued"].append(entry)
        return made, _utc(now + timedelta(days=days) * 2 / 3)

    def issue_broker(self, names: list[str], days: float = DAYS) -> tuple[str, str]:
        """A certificate for the cloud broker at these host names or addresses, and its key (PEM). BadRequest."""
        from cryptography import x509

        for name in names:
            if not name or not name.isascii():
                raise BadRequest(f"{name!r} is no host name: write it in ASCII, as the DNS has it (xn--...)")
        key, private = certificates.new_key()
        until = datetime.now(UTC) + timedelta(days=days)
        serial = x509.random_serial_number()
        return self._signer.server(self._chain, names, key, serial, until, "Tillgate cloud broker"), private

    def check(self, store: str, request: CertificateRequest) -> None:
        """BadRequest unless `store` itself asks: proved with a certificate of ours that is not revoked."""
        try:
            shown = certificates.lane_certificate(request.certificate.encode(), self.certificate)
            signature = base64.b64decode(request.signature, validate=True)
        except (BadCertificate, binascii.Error) as error:
            raise BadRequest(f"its certificate: {error}") from None
        if shown.lane != store:
            raise BadRequest(f"asked in the name of {store} with the certificate of {shown.lane}")
        if format(shown.serial, "x") in [one["serial"] for one in self.issued if one["revoked"]]:
            raise BadRequest("its certificate is revoked")
        if not certificates.is_signed(shown.public_key, signature, PROOF + request.csr.encode()):
            raise BadRequest("it is not signed by the key of the certificate it shows")
        certificates.csr_key(request.csr.encode())

    def revoke(self, store: str) -> int:
        """Revoke all that `store` has; returns how many. The broker has to read the list again."""
        with self._changing() as book:
            found = [one for one in book["issued"] if one["store"] == store and not one["revoked"]]
            for one in found:
                one["revoked"] = True
        return len(found)

    def _read(self) -> dict[str, Any]:
        return dict(json.loads((self._folder / "issued.json").read_text(encoding="utf-8")))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The book as it is, to be changed: a timer and a person may do so at once."""
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = self._read()
            yield book
            book["lists"] += 1
            write_secret(self._folder / "issued.json", json.dumps(book, indent=1).encode())
            revoked = [int(one["serial"], 16) for one in book["issued"] if one["revoked"]]
            write_secret(self._folder / "revoked.crl", self._signer.revoked(revoked, book["lists"]).encode())


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
