"""The store authority: signs the broker's and the lanes' certificates, revokes them, and is replaced by another.

Strategy: `Authority` works on the book (`authority_book.py`) under a lock, so that edge, the broker's starter and the
command line may each have one. Of the files in ``state_dir/access`` only the book counts; these are made of it, for
mosquitto and for people:

- ``authority.pem``: the current authority's certificate
- ``trusted.pem``: those that are believed: the current one and, in an overlap, the one before it
- ``revoked.crl``: one list of revoked certificates for each of them, always present

A private key leaves its seal only inside a method that signs (`authority_keys.py`). Without the seal's key everything
that exists goes on: tills connect, lists stay; only nothing new can be signed, and `fault` says so in plain words.

A rotation makes a new authority, signed by itself and, crosswise, by the old one; what the new one signs carries that
cross certificate along until the old one is dropped. So a till that knows only the old one believes the broker, and a
broker that was started with only the old one believes a till that has followed.

Methods are blocking (file, fsync, signature: milliseconds): on an event loop they run in a thread.

Source: design page "In the field" (store authority); RFC 5280.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edge.access import authority_book
from edge.access.authority_book import Book, Entry, Generation, Server, at
from edge.access.authority_keys import AuthorityFault, AuthorityKeys
from edge.access.lane_standings import LaneStanding, standings
from edge.seal import Seal, write_if_changed

if TYPE_CHECKING:
    from edge.access.certificates import Made

log = logging.getLogger(__name__)

LIFE = timedelta(days=90)
"""Of the broker's and a lane's certificate: a store may be without anybody's care for a season, and a key that was
copied unnoticed serves no longer than that unless its thief renews it."""

RENEW_LEFT = LIFE / 3
"""Certificates are renewed when this much is left, two thirds of life being over. notBefore says nothing of that."""

OVERLAP_H = int(LIFE / timedelta(hours=1))
"""So many hours of a running gateway two authorities are believed: a till that is away longer has an expired
certificate anyway. Not until a date: a clock that jumps must drop nothing."""


STAND_IN = "# Nobody is believed: there was no authority yet when the broker had to start.\n"
"""The first line of a ``trusted.pem`` that is no authority's."""


class Revoked(Exception):
    """The certificate or its key has been revoked: its holder must be enrolled anew."""


class NotProven(Exception):
    """The asker does not hold the key of the certificate that is to be renewed."""


class RotationOn(Exception):
    """A rotation is on already; the text says for how long."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A lane's new certificate: `pem` is its chain (the till sends all of it), `serial` lower hex."""

    lane: str
    pem: str
    serial: str
    not_after: datetime


class Authority:
    """The authority of one store; `folder` is ``state_dir/access``. Made by `open`."""

    def __init__(self, folder: Path, seal: Seal | None, store: str, now: Callable[[], datetime]) -> None:
        """Not for callers: `open` does what must be done before."""
        self.folder = folder
        self.store = store
        self._keys = AuthorityKeys(seal)
        self._book: Book | None = None
        self._stamp: tuple[int, int] | None = None
        self.now = now
        self.on_change: list[Callable[[], None]] = []
        """Called after every change, in whichever thread made it."""
        self.fault: str | None = None
        """Why nothing can be signed, and what a person should do; None while all is well."""

    @classmethod
    def faulted(cls, folder: Path, store_id: str, fault: str) -> Authority:
        """One that has not been read, and signs nothing; `mend` reads it."""
        authority = cls(folder, None, store_id, lambda: datetime.now(UTC))
        authority.fault = fault
        return authority

    @classmethod
    def open(
        cls, folder: Path, seal: Seal | None, store_id: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> Authority:
        """The store's authority, made when there has never been one. `seal` of purpose "authority"; None: no key.

        What is broken is told by `fault`.
        """
        authority = cls(folder, seal, store_id, now)
        try:
            with authority_book.locked(folder):
                authority._load()
                if authority._book is None and authority.fault is None:
                    authority._found()
                if authority._book is not None:
                    authority._mend()
        except OSError as error:
            authority.fault = f"the store authority's files cannot be kept ({error}): see to the disk"
        except AuthorityFault as error:
            authority.fault = str(error)
        return authority

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def book(self) -> Book | None:
        """What was read or written last; None while it cannot be read."""
        return self._book

    @property
    def fingerprint(self) -> str:
        """Of the current authority: SHA-256 of its DER, lower hex. Raises AuthorityFault when there is none."""
        return self._known().current.fingerprint

    @property
    def advertised(self) -> str:
        """The fingerprint that every till of the store knows: in an overlap that of the former authority."""
        return self._known().generations[-1].fingerprint

    def trusted(self) -> str:
        """The certificates of all authorities that are believed (PEM). Raises AuthorityFault when there is none."""
        return self._known().trusted()

    def certificates(self) -> tuple[Entry, ...]:
        """Every certificate a lane was given, in the order they were given."""
        return self._book.entries if self._book else ()

    def newest(self, lane: str) -> Entry | None:
        """The certificate this lane was given last and that is not revoked, also when it has expired."""
        mine = [entry for entry in self.certificates() if entry.lane == lane and entry.revoked_at is None]
        return mine[-1] if mine else None

    def lanes(self) -> dict[str, LaneStanding]:
        """How each lane stands that was ever given a certificate."""
        return standings(self._book, self.now()) if self._book is not None else {}

    def following(self) -> dict[str, bool]:
        """Of each lane that has a certificate: whether its newest is by the current authority."""
        return {lane: held.follows for lane, held in self.lanes().items() if held.state != "revoked"}

    def refresh(self) -> None:
        """Read again what another process may have changed. Raises OSError."""
        with authority_book.locked(self.folder):
            before = self._stamp
            self._load()
        if self._stamp != before:
            for changed in self.on_change:
                changed()

    def mend(self) -> None:
        """Read again what another process has changed; put back what is missing of the files made of the book.

        Raises OSError.
        """
        with authority_book.locked(self.folder):
            if authority_book.stamp(self.folder) != self._stamp or self.fault is not None:
                self._load()
            if self._book is not None:
                self._derive(self._book)

    # -- lanes -----------------------------------------------------------------------------------------------------

    def issue_lane(self, lane: str, csr_pem: bytes) -> Issued:
        """Sign a certificate for this lane with the request's key; its subject is ignored.

        The same request again gets the same certificate, as long as that is fresh. Raises certificates.BadRequest
        (not a P-256 request signed by its own key, or the key is another lane's), Revoked (the key was),
        AuthorityFault, OSError.
        """
        from edge.access import certificates

        key = certificates.csr_key(csr_pem)
        digest = certificates.key_digest(key)
        with self._changing() as book:
            now = self._moment(book)
            for entry in (entry for entry in book.entries if entry.key == digest):
                if entry.revoked_at is not None:
                    raise Revoked(f"the key of this request was revoked ({entry.why}); make a new one")
                if entry.lane != lane:
                    raise certificates.BadRequest("its key is another lane's; every till makes its own")
                fresh = entry.not_after - now > RENEW_LEFT and entry.authority == book.current.fingerprint
                if fresh and entry.certificate is not None:
                    return Issued(lane, entry.certificate, entry.serial, entry.not_after)
            serial, until = secrets.randbits(127) + 1, at(now + LIFE)
            signer = self._keys.signer(book.current)
            pem = signer.lane(self.store, lane, key, serial, until) + (book.current.cross or "")
            entry = Entry(
                serial=f"{serial:x}",
                lane=lane,
                authority=book.current.fingerprint,
                issued_at=at(now),
                not_after=until,
                key=digest,
                certificate=pem,
            )
            older = tuple(
                one.model_copy(update={"certificate": None}) if one.lane == lane else one for one in book.entries
            )
            self._write(book.model_copy(update={"entries": (*older, entry)}))
        return Issued(lane, pem, entry.serial, until)

    def renew_expired(
        self, certificate_pem: bytes, csr_pem: bytes, *, message: bytes, signature: bytes, lanes: Collection[str]
    ) -> Issued:
        """A new certificate for whoever holds the key of an old one, whenever that one ended.

        `signature` (ECDSA with SHA-256, DER) of `message` by the old key is the proof; what `message` holds, and that
        it is fresh, is the caller's business. Raises certificates.BadCertificate (not by an authority that is believed,
        not a lane's, of no lane in `lanes`), Revoked, NotProven, and what `issue_lane` raises.
        """
        from edge.access import certificates

        old = certificates.lane_certificate(certificate_pem, self.trusted())
        if old.store != self.store or old.lane not in lanes:
            raise certificates.BadCertificate(f"this store has no lane {old.lane!r}")
        if not certificates.is_signed(old.public_key, signature, message):
            raise NotProven("the request is not signed by the key of the certificate that is to be renewed")
        self.refresh()
        digest, serial = certificates.key_digest(old.public_key), f"{old.serial:x}"
        for entry in self.certificates():
            if entry.revoked_at is not None and (entry.serial == serial or entry.key == digest):
                raise Revoked(f"this certificate was revoked ({entry.why}); enrol the till anew")
        return self.issue_lane(old.lane, csr_pem)

    def revoke(self, serials: Iterable[str], why: str) -> tuple[Entry, ...]:
        """Revoke these certificates for good, and give those that were not revoked before.

        Durable, and in ``revoked.crl``, when this returns; mosquitto must be told (`broker_identity.reload_broker`).
        Raises OSError, and AuthorityFault when the list cannot be signed: they are revoked in the book all the same,
        and listed when the key is back.
        """
        wanted = set(serials)
        with self._changing() as book:
            hit = [entry for entry in book.entries if entry.serial in wanted and entry.revoked_at is None]
            if not hit:
                return ()
            now = at(self.now())
            gone = {entry.serial: entry.model_copy(update={"revoked_at": now, "why": why[:200]}) for entry in hit}
            book = book.model_copy(update={"entries": tuple(gone.get(one.serial, one) for one in book.entries)})
            unsigned: AuthorityFault | None = None
            try:
                book = self._listed(book)
            except AuthorityFault as error:
                unsigned = error
            self._write(book)
        if unsigned is not None:
            raise AuthorityFault(
                f"revoked here, so nothing is taken from it; but the broker's list cannot be signed: {unsigned}"
            )
        return tuple(gone.values())

    def revoke_lane(self, lane: str, why: str) -> tuple[Entry, ...]:
        """Revoke every certificate this lane has ever been given."""
        self.refresh()
        return self.revoke([entry.serial for entry in self.certificates() if entry.lane == lane], why)

    # -- the broker ------------------------------------------------------------------------------------------------

    def issue_server(self, names: tuple[str, ...], file: Path, *, synced: bool = False) -> Server:
        """A fresh key and certificate for the store's servers, good for these `names`, written to `file` (PEM, 0600).

        Key and chain are in one file, so that they always fit. `synced`: the clock can be believed; otherwise the new
        one lasts at least as long as the one before, for tills whose clocks are right. Raises AuthorityFault, OSError.
        """
        from edge.access import certificates

        with self._changing() as book:
            now = at(self.now())
            moment = now if synced or book.server is None else max(now, book.server.issued_at)
            until = at(moment + LIFE)
            key, key_pem = certificates.new_key()
            signer = self._keys.signer(book.current)
            chain = signer.server(self.store, names, key, secrets.randbits(127) + 1, until) + (book.current.cross or "")
            text = key_pem + chain
            write_if_changed(file, text.encode())
            server = Server(
                authority=book.current.fingerprint,
                names=names,
                issued_at=moment,
                not_after=until,
                digest=hashlib.sha256(text.encode()).hexdigest(),
            )
            self._write(book.model_copy(update={"server": server}))
        return server

    # -- rotation --------------------------------------------------------------------------------------------------

    def rotate(self, overlap_h: int = OVERLAP_H) -> Generation:
        """Put a new authority in place of the current one, which is believed for so many hours longer.

        Raises RotationOn, AuthorityFault, OSError.
        """
        from edge.access import certificates

        with self._changing() as book:
            if book.former is not None:
                days = (book.former.left_h or 0) // 24
                raise RotationOn(
                    f"a rotation is on for {days} more days: wait until every lane has followed, or drop the former one"
                    " now (tillgate access authority drop)"
                )
            old = self._keys.signer(book.current)
            made = certificates.make_authority(self.store)
            cross = certificates.cross_sign(made.certificate, old.certificate, old.key)
            current = self._generation(made, cross, at(self.now()))
            former = book.current.model_copy(update={"left_h": overlap_h})
            self._write(book.model_copy(update={"generations": (current, former)}))
        return current

    def pass_hours(self, hours: int) -> int:
        """So many hours of an overlap have gone by; how many are left, 0 when there is none. Raises OSError."""
        with self._changing() as book:
            if book.former is None:
                return 0
            left_h = max(0, (book.former.left_h or 0) - hours)
            self._write(book.with_generation(book.former.model_copy(update={"left_h": left_h})))
        return left_h

    def drop_former(self) -> Generation | None:
        """Believe the former authority no more; it is returned, None when there was none.

        A broker that runs goes on believing it until it is started again.
        """
        with self._changing() as book:
            former = book.former
            if former is not None:
                current = book.current.model_copy(update={"cross": None})
                self._write(book.model_copy(update={"generations": (current,)}))
        return former

    def begin_anew(self) -> Generation:
        """A new authority that nothing ties to what was: every till must be enrolled anew. For a key that is lost.

        What cannot be read is set aside, not deleted. Raises AuthorityFault when there is no key to seal with.
        """
        with authority_book.locked(self.folder):
            for name in (authority_book.FILE, authority_book.COPY):
                if (self.folder / name).exists():
                    stamp = f"{self.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
                    (self.folder / name).rename(self.folder / f"{name}.former-{stamp}")
            self.fault = None
            self._found()
            return self._known().current

    # -- inside ----------------------------------------------------------------------------------------------------

    def _known(self) -> Book:
        if self._book is None:
            raise AuthorityFault(self.fault or "the store authority is not open")
        return self._book

    def _moment(self, book: Book) -> datetime:
        """Now; a clock that is behind what the broker's certificate was signed at does not shorten lives."""
        now = self.now()
        return now if book.server is None else max(now, book.server.issued_at)

    def _load(self) -> None:
        """Read the book; `fault` tells when it cannot be used."""
        self._stamp = authority_book.stamp(self.folder)
        try:
            self._book = authority_book.read(self.folder)
        except authority_book.Unreadable as error:
            self._book = None
            self.fault = (
                f"the store authority's file is damaged ({error}): put back {authority_book.FILE} from a backup, or"
                " make a new authority and enrol every till anew (tillgate access authority rotate --anew)"
            )
            return
        self.fault = None
        if self._book is None:
            if self._was_there():
                self.fault = (
                    f"{self.folder / authority_book.FILE} is gone: put it back from a backup, or make a new authority"
                    " and enrol every till anew (tillgate access authority rotate --anew)"
                )
        elif self._book.store != self.store:
            self.fault = (
                f"the authority in {self.folder} is that of store {self._book.store}, not of {self.store}: put back"
                " the right files, or make a new authority (tillgate access authority rotate --anew)"
            )
            self._book = None
        else:
            try:
                self._keys.opened(self._book.current)
            except AuthorityFault as error:
                self.fault = str(error)

    def _was_there(self) -> bool:
        """Whether there has been an authority here: its certificates are, and not only what stood in for them."""
        try:
            return not (self.folder / "trusted.pem").read_text(encoding="ascii").startswith(STAND_IN)
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True

    def _found(self) -> None:
        """Make the first authority of this store, or the first again."""
        from edge.access import certificates

        made = certificates.make_authority(self.store)
        generation = self._generation(made, None, at(self.now()))
        self._write(Book(store=self.store, generations=(generation,)))
        log.info("made the authority of store %s, fingerprint %s", self.store, made.fingerprint)

    def _generation(self, made: Made, cross: str | None, now: datetime) -> Generation:
        from edge.access import certificates

        return Generation(
            fingerprint=made.fingerprint,
            certificate=made.certificate,
            key=self._keys.sealed(made.key, made.fingerprint),
            cross=cross,
            since=now,
            crl=certificates.Signer(made.certificate, made.key).revoked((), 1),
            crl_number=1,
        )

    def _listed(self, book: Book) -> Book:
        """`book` with a new list of revoked certificates wherever one is missing on it. Raises AuthorityFault."""
        for generation in book.generations:
            serials = [
                int(entry.serial, 16)
                for entry in book.entries
                if entry.revoked_at is not None and entry.authority == generation.fingerprint
            ]
            if len(serials) != generation.listed:
                number = generation.crl_number + 1
                crl = self._keys.signer(generation).revoked(serials, number)
                fresh = {"crl": crl, "crl_number": number, "listed": len(serials)}
                book = book.with_generation(generation.model_copy(update=fresh))
        return book

    @contextmanager
    def _changing(self) -> Iterator[Book]:
        """Alone with the newest book. Raises AuthorityFault when there is none."""
        with authority_book.locked(self.folder):
            self._load()
            yield self._known()

    def _write(self, book: Book) -> None:
        authority_book.write(self.folder, book)
        self._book = book
        self._stamp = authority_book.stamp(self.folder)
        self._derive(book)
        for changed in self.on_change:
            changed()

    def _derive(self, book: Book) -> None:
        for name, text in (
            ("authority.pem", book.current.certificate),
            ("trusted.pem", book.trusted()),
            ("revoked.crl", "".join(generation.crl for generation in book.generations)),
        ):
            write_if_changed(self.folder / name, text.encode())

    def _mend(self) -> None:
        """After a crash between book and files, and after the seal has got a new key, or its old one back."""
        book = self._known()
        if self._keys.present and self.fault is None:
            for generation in book.generations:
                if (anew := self._keys.sealed_anew(generation)) is not generation:
                    book = book.with_generation(anew)
            book = self._listed(book)
        if book is not self._book:
            self._write(book)
        else:
            authority_book.write(self.folder, book)  # of its two copies one may be spoilt
            self._stamp = authority_book.stamp(self.folder)
        self._derive(book)
