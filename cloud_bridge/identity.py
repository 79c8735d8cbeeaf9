"""The store's certificate for HQ's broker and its renewal: the next one is proved before the last is forgotten.

    state_dir/hq/identity/   own.pem       key and certificate in use, once one was renewed (0600)
                             former.pem    the one that `own` took the place of
                             next.pem      the next one, not yet proved
                             pending.key   the key of a request that HQ has not answered
                             refused.pem   a next one that the broker did not take, to be looked at

Strategy: key and certificate stand in one file, so that replacing it is one step. A next one is tried at once: what
connects with it makes it `own`. While it does not, attempts take turns between it and what was good before; when one of
these gets in where the next one did not, the next one is set aside and a person is told. Of `own`, `former` and the
configured files the one that ends later is used, so a technician who brings new files is heard; when it is refused the
others are tried, as long as they have not ended themselves.

At two thirds of its life a certificate asks for the next: on each connection, and every hour until HQ has answered. An
answer is taken only for the key that waits for it, and with the authority's certificate that has signed both it and the
present one; that the broker lets us in with it proves nothing, for the broker is others'. What a person installs by
hand may be of another authority.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from cloud_bridge.certificate_days import validity
from edge.bus.address import TlsFiles
from edge.bus.client import Message
from edge.bus.messages.facts import first_error
from edge.bus.messages.renewal import PROOF, CertificateAnswer, CertificateRequest
from edge.seal import write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
ASK_EVERY_S = 3600.0
AFTER_REFUSAL_S = 24 * 3600.0
LIFE_DAYS = 365
"""Taken for the life of a certificate that does not say when it began."""

UNHEARD = frozenset({"name", "unreachable", "refused", "timeout"})
"""Causes of a failed attempt with which no broker has seen a certificate: another would not have fared better."""

RENEW_LINE = "# renew at "


class NotUsable(ValueError):
    """A certificate that cannot be the next one; the text says why."""


class NotOfOurAuthority(NotUsable):
    """Another has signed it than the present one."""


def folder_of(state_dir: Path) -> Path:
    return state_dir / "hq" / "identity"


class Identity:
    """`configured` are the files of ``[cloud.tls]``; None without a certificate: then there is nothing to renew.

    `publish` sends a request, `reconnect` drops the connection so that the next certificate is tried, `changed` hears
    that `files` may be others.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        configured: TlsFiles | None,
        *,
        publish: Callable[[bytes], None],
        reconnect: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.warning = ""
        """What a person should know: the broker did not take the next certificate."""
        self._folder = folder
        self._store = store
        self._configured = configured if configured is not None and configured.certificate is not None else None
        self._publish = publish
        self._reconnect = reconnect
        self._changed = changed
        self._using_next = False
        self._failed_with_next = False
        self._turn = 0
        """Which of those that have been good is tried: how many were refused since one was let in."""
        self._online = False
        self._tried: float | None = None
        self._ask_at = 0.0

    # -- which one is used -------------------------------------------------------------------------------------------

    @property
    def files(self) -> TlsFiles | None:
        """What the next attempt is made with."""
        if self._configured is None:
            return None
        found = self._next if self._using_next else self._stable(self._turn)
        if found == self._configured.certificate:
            return self._configured
        return replace(self._configured, certificate=found, key=found)

    def choose(self) -> None:
        """Before the first attempt: a next one is tried first."""
        self._using_next = self._configured is not None and self._next.exists()

    def connected(self) -> None:
        """The broker let us in with what was chosen."""
        self._online = True
        if self._using_next:
            if self._own.exists():
                self._own.replace(self._former)
            self._next.replace(self._own)
            self._turn = 0
            self._using_next = self._failed_with_next = False
            self.warning = ""
            log.info("the next certificate is good until %s and in use", validity(self._own).ends.date())
        elif self._failed_with_next and self._next.exists():
            self._failed_with_next = False
            self._next.replace(self._folder / "refused.pem")
            self.warning = (
                "HQ's broker does not take this store's next certificate, only the one before: tell HQ. Does the broker"
                f" know the authority that signed {self._folder / 'refused.pem'}?"
            )
            log.error("%s", self.warning)
            self._ask_at = self._now() + AFTER_REFUSAL_S
        elif self._turn and (files := self.files) is not None:
            self.warning = (
                f"HQ's broker takes {files.certificate}, not {self._stable()}, which ends later: tell HQ. Is that one"
                " revoked, or of another authority?"
            )
            log.error("%s", self.warning)
        self._changed()

    def lost(self, cause: str) -> None:
        """The connection is gone, or an attempt failed: the next attempt may be made with another."""
        if self._online:
            self._online, self._turn = False, 0
            self._using_next = self._configured is not None and self._next.exists()
        elif self._using_next:
            self._using_next, self._failed_with_next = False, True
        else:
            if cause not in UNHEARD:
                self._turn += 1
            self._using_next = self._configured is not None and self._next.exists()
        self._changed()

    def _stable(self, turn: int = 0) -> Path:
        """Of what has been good before, the one that ends latest; in later turns the others that have not ended."""
        assert self._configured is not None
        assert self._configured.certificate is not None
        found: list[tuple[datetime, Path]] = []
        for file in (self._configured.certificate, self._own, self._former):
            with contextlib.suppress(OSError, ValueError):
                found.append((validity(file).ends, file))
        if not found:
            return self._configured.certificate
        found.sort(key=lambda one: one[0], reverse=True)
        good = [file for ends, file in found if ends > datetime.now(UTC)] or [found[0][1]]
        return good[turn % len(good)]

    # -- renewing ------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Ask when it is time, and try what was installed by hand, until cancelled."""
        while True:
            if self._configured is not None and self._online:
                if self._next.exists():
                    self._reconnect("the next certificate is tried")
                elif self._now() >= self._ask_at and self.due():
                    self._ask_at = self._now() + ASK_EVERY_S
                    self._publish(self.request().model_dump_json().encode())
            await asyncio.sleep(LOOK_EVERY_S)

    def due(self) -> bool:
        """Whether two thirds of the life of what is used are over, by this box's clock."""
        try:
            return datetime.now(UTC) >= renew_at(self._stable())
        except (OSError, ValueError):
            return False

    def request(self) -> CertificateRequest:
        """What HQ is asked; the key that it is for is on disk before."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        files = self.files
        assert files is not None
        assert files.certificate is not None
        certificate = _certificates_in(files.certificate)
        csr = make_request(self._folder, self._store)
        key = _key_in(files.key or files.certificate)
        signature = key.sign(PROOF + csr.encode(), ec.ECDSA(hashes.SHA256()))
        return CertificateRequest(certificate=certificate, csr=csr, signature=base64.b64encode(signature).decode())

    def on_answer(self, message: Message) -> None:
        """HQ's answer."""
        message.ack()
        try:
            answer = CertificateAnswer.model_validate_json(message.payload)
            check_authority(answer.certificate, self._stable())
            install(self._folder, self._store, answer.certificate, renew=answer.renew_at, after=self._stable_end())
        except ValidationError as error:
            log.error("HQ's answer with a certificate cannot be read: %s", first_error(error))
        except NotOfOurAuthority as error:
            self.warning = f"a next certificate that came is not taken: {error}"
            log.error("%s", self.warning)
            self._changed()
        except (NotUsable, OSError) as error:
            log.error("the certificate that came is not taken: %s", error)
        else:
            self._reconnect("the next certificate is tried")

    def _stable_end(self) -> datetime | None:
        with contextlib.suppress(OSError, ValueError):
            return validity(self._stable()).ends
        return None

    @property
    def _own(self) -> Path:
        return self._folder / "own.pem"

    @property
    def _former(self) -> Path:
        return self._folder / "former.pem"

    @property
    def _next(self) -> Path:
        return self._folder / "next.pem"

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def make_request(folder: Path, store: str) -> str:
    """A request (PEM) for the key that waits in `folder`, which is made when there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    from edge.access.certificates import new_key

    file = folder / "pending.key"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(file, new_key()[1].encode())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, store)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_key_in(file), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def install(folder: Path, store: str, certificate: str, *, renew: str | None, after: datetime | None) -> None:
    """Put `certificate` where the bridge finds and tries it. NotUsable when it is not for the key that waits, not for
    this store, or ends before `after`.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    pending = folder / "pending.key"
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        key = _key_in(pending)
    except FileNotFoundError:
        raise NotUsable("no request of this store waits for one: tillgate cloud certificate request") from None
    except ValueError as error:
        raise NotUsable(f"it is no certificate: {error}") from None
    if found.public_key() != key.public_key():
        raise NotUsable("it is for another key than the one that waits here: was it made from an older request?")
    names = [str(one.value) for one in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [store]:
        raise NotUsable(f"it is for {names}, not for {store}")
    if after is not None and found.not_valid_after_utc <= after:
        raise NotUsable(f"it ends {found.not_valid_after_utc:%Y-%m-%d}, not after the one in use")
    head = f"{RENEW_LINE}{renew}\n" if renew else ""
    write_secret(folder / "next.pem", head.encode() + pending.read_bytes() + certificate.encode())
    pending.unlink()


def check_authority(answer: str, present: Path) -> None:
    """NotOfOurAuthority unless one authority's certificate that stands in `answer` behind the first has signed that
    first one and `present`; OSError.

    Nobody can choose an authority to fit: with the curve fixed, who has a key under which an ECDSA signature of
    somebody else's is good knows a discrete logarithm. Hence P-256 only (as everywhere here), and no RSA.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        first, *authorities = x509.load_pem_x509_certificates(answer.encode())
        mine = x509.load_pem_x509_certificate(present.read_bytes())
    except ValueError as error:
        raise NotUsable(f"it is no certificate: {error}") from None
    for authority in authorities:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            key = authority.public_key()
            if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
                mine.verify_directly_issued_by(authority)
                first.verify_directly_issued_by(authority)
                return
    raise NotOfOurAuthority(
        "it does not come with the authority that signed both it and the present one: somebody at the cloud broker?"
        " Where HQ has a new authority, bring it by hand: tillgate cloud certificate request"
    )


def renew_at(file: Path) -> datetime:
    """When two thirds of its life are over. OSError, ValueError."""
    with file.open(encoding="ascii") as lines:
        first = lines.readline().rstrip()
    if first.startswith(RENEW_LINE):
        return datetime.fromisoformat(first.removeprefix(RENEW_LINE))
    found = validity(file)
    if found.begins.year < 2000:  # made for clocks that start in the past: it does not say when it was made
        return found.ends - timedelta(days=LIFE_DAYS / 3)
    return found.begins + (found.ends - found.begins) * 2 / 3


def key_digest_of(csr: str) -> str:
    """What a request and its answer are told apart by: the key that it is for. edge.access.certificates.BadRequest."""
    from edge.access.certificates import csr_key, key_digest

    return key_digest(csr_key(csr.encode()))


def _certificates_in(file: Path) -> str:
    """The first certificate of `file`, alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.PEM).decode()


def _key_in(file: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotUsable(f"{file} holds no EC key; HQ renews certificates with EC keys")
    return key
