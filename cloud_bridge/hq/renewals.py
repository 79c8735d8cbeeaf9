"""Stores that ask for their next certificate: the question into the database, the answer out of it.

Strategy: one row per store, the last question. A question that is answered already is told its answer at once; else it
waits for `tillgate hq authority answer`, and the store asks again. Only stores that HQ knows get a row, so nobody can
fill the table with names.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine, and_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq.authority import StoresAuthority
from cloud_bridge.hq.schema import certificate_requests, stores
from cloud_bridge.identity import key_digest_of
from edge.access.certificates import BadRequest
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.renewal import CertificateAnswer, CertificateRequest

log = logging.getLogger(__name__)


class Renewals:
    """In the database behind `engine`. Blocking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def take(self, messages: Sequence[tuple[str, bytes]]) -> list[tuple[str, CertificateAnswer]]:
        """Keep (topic, payload) questions; returns (store, answer) of those that have one."""
        answers: list[tuple[str, CertificateAnswer]] = []
        for topic, payload in messages:
            store = topics.store_of(topic)
            try:
                request = CertificateRequest.model_validate_json(payload)
                digest = key_digest_of(request.csr)
            except ValidationError as error:
                log.error("%s: a request for a certificate cannot be read: %s", topic, first_error(error))
                continue
            except BadRequest as error:
                log.error("%s: a request for a certificate cannot be served: %s", topic, error)
                continue
            answer = self._put(store, request, digest)
            if answer is not None:
                answers.append((store, answer))
        return answers

    def _put(self, store: str, request: CertificateRequest, digest: str) -> CertificateAnswer | None:
        columns = certificate_requests.c
        with self._engine.begin() as db:
            if db.execute(select(stores.c.store).where(stores.c.store == store)).first() is None:
                log.error("%s asks for a certificate and is no store that was ever heard", store)
                return None
            row = db.execute(select(certificate_requests).where(columns.store == store)).mappings().one_or_none()
            if row is not None and row["key_sha256"] == digest:
                if row["certificate"] is None:
                    return None
                made = row["certificate"]
                return CertificateAnswer(key_sha256=digest, certificate=made, renew_at=row["renew_at"])
            values = {
                "key_sha256": digest,
                "request": request.model_dump_json(),
                "asked_at": now_utc(),
                "certificate": None,
                "renew_at": None,
                "refused": None,
            }
            fresh = self._insert(certificate_requests).values(store=store, **values)
            db.execute(fresh.on_conflict_do_update(index_elements=["store"], set_=values))
        log.info("%s asks for its next certificate: tillgate hq authority answer", store)
        return None

    def answer(self, authority: StoresAuthority, days: float) -> list[tuple[str, str]]:
        """Answer what waits; returns (store, why it was refused or "")."""
        columns = certificate_requests.c
        open_ = and_(columns.certificate.is_(None), columns.refused.is_(None))
        done: list[tuple[str, str]] = []
        with self._engine.connect() as db:
            rows = db.execute(select(certificate_requests).where(open_).order_by(columns.store)).mappings().all()
        for row in rows:
            store, request = row["store"], CertificateRequest.model_validate_json(row["request"])
            try:
                authority.check(store, request)
                certificate, renew_at = authority.issue(store, request.csr, days)
            except BadRequest as error:
                values = {"refused": str(error)}
                done.append((store, str(error)))
            else:
                # The store sees by the authority's that the present one is of the same.
                values = {"certificate": certificate + authority.certificate, "renew_at": renew_at}
                done.append((store, ""))
            same = and_(columns.store == store, columns.key_sha256 == row["key_sha256"])
            with self._engine.begin() as db:
                db.execute(update(certificate_requests).where(same).values(**values))
        return done
