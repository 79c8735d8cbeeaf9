"""HQ's end of the suite: a PostgreSQL, what people there do with `tillgate hq`, and SQL to see how far it is."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.processes import a_port, as_user

ROOT = Path(__file__).parents[2]
TILLGATE = (sys.executable, "-m", "edge.cli")
OFFICE_WITHIN_S = 60.0
PRICE_LIST = "code,text,price_minor\n" + "".join(f"{4000000000000 + n},Article {n},{100 + n}\n" for n in range(3_000))


class DidNotComeUp(Exception):
    """Something did not start; the text ends with its last words."""


def environment(of: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the product's processes run in."""
    return {**of, "PYTHONPATH": str(ROOT)}


class Postgres:
    """A PostgreSQL of our own in `folder`, with its promise kept: fsync is on, as it is by default."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
        on_path = shutil.which("postgres")
        if not found and not on_path:
            raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql (./dev faults does it)")
        self._binaries = found[0].parent if found else Path(str(on_path)).parent
        self.user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
        self._folder = folder
        self.port = a_port()

    @property
    def dsn(self) -> str:
        """For psycopg."""
        return f"host=127.0.0.1 port={self.port} user=hq dbname=hq connect_timeout=5"

    @property
    def url(self) -> str:
        """For SQLAlchemy, so for `tillgate hq receive`."""
        return f"postgresql+psycopg://hq@127.0.0.1:{self.port}/hq"

    @property
    def command(self) -> list[str | Path]:
        """The server."""
        settings = ["listen_addresses=127.0.0.1", "max_connections=40", "shared_buffers=32MB"]
        options = [part for setting in settings for part in ("-c", setting)]
        where = ["-D", self._folder / "data", "-k", self._folder, "-p", str(self.port)]
        return [self._binaries / "postgres", *where, *options]

    def prepare(self) -> None:
        """Make the cluster. Blocking, some seconds."""
        self._folder.mkdir(parents=True)
        if self.user:
            owner = pwd.getpwnam(self.user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        initdb = [self._binaries / "initdb", "-D", self._folder / "data", "-U", "hq", "-A", "trust", "--no-sync"]
        subprocess.run([*as_user(self.user), *initdb, "-E", "UTF8"], check=True, capture_output=True, cwd=self._folder)

    def make_database(self, within_s: float) -> None:
        """Wait until the server answers, and make HQ's database. Blocking."""
        import psycopg

        deadline = time.monotonic() + within_s
        while True:
            try:
                with psycopg.connect(self.dsn.replace("dbname=hq", "dbname=postgres"), autocommit=True) as db:
                    db.execute("CREATE DATABASE hq")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class Headquarters:
    """People at HQ of `store`, whose key and price lists are in `folder`, and the database."""

    def __init__(self, folder: Path, store: str, cloud_port: int) -> None:
        self.postgres = Postgres(folder / "pg")
        self._folder = folder
        self._store = store
        self._cloud_port = cloud_port

    async def make_key(self) -> str:
        """HQ's key for what it sends; its public half."""
        said = await self._office("hq", "keygen", self._folder / "hq.key")
        if found := re.search(r"[A-Za-z0-9+/]{43}=", said or ""):
            return found[0]
        raise DidNotComeUp(f"`tillgate hq keygen` printed no public key: {said}")

    async def command(self, *operation: str) -> bool:
        """HQ gives the store a command; False when HQ's database could not take it."""
        return await self._send("command", "send", *operation) is not None

    async def publish_prices(self, version: str) -> bool:
        """HQ publishes a price version; False when HQ's database could not take it."""
        file = self._folder / f"prices-{version}.csv"
        file.write_text(PRICE_LIST)
        return await self._send("prices", "publish", file, "--version", version, "--currency", "EUR") is not None

    async def _send(self, family: str, verb: str, *arguments: str | Path) -> str | None:
        where = ["--url", self.postgres.url, "--broker", f"127.0.0.1:{self._cloud_port}"]
        to = ["--store", self._store, "--key", self._folder / "hq.key"]
        return await self._office("hq", family, verb, *to, *where, *arguments)

    async def _office(self, *arguments: str | Path) -> str | None:
        """Run a `tillgate` command; what it printed, or None when it failed."""
        with (self._folder / "log" / "office.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *TILLGATE,
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            try:
                async with asyncio.timeout(OFFICE_WITHIN_S):
                    said, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()
                return None
        kept_for_later = 3  # in HQ's log; the cloud's broker was away
        return said.decode() if process.returncode in (0, kept_for_later) else None

    def recorded(self) -> int:
        """Facts in HQ's database; 0 when it cannot be asked now. Blocking."""
        return sum(facts for _, facts in self._heads().values())

    def contiguous(self) -> dict[tuple[str, str], int]:
        """How far each chain is contiguous, by (epoch, class); empty when it cannot be asked now. Blocking."""
        return {chain: contiguous for chain, (contiguous, _) in self._heads().items()}

    def _heads(self) -> dict[tuple[str, str], tuple[int, int]]:
        import psycopg

        query = "SELECT epoch, class, contiguous, facts FROM heads WHERE store = %s"
        try:
            with psycopg.connect(self.postgres.dsn) as db:
                rows = db.execute(query, (self._store,)).fetchall()
        except psycopg.Error:
            return {}
        return {(epoch, name): (int(contiguous), int(facts)) for epoch, name, contiguous, facts in rows}

    def unanswered(self) -> int | None:
        """Commands without an answer, and 1 for a price version that is not in force; None: HQ cannot be asked."""
        import psycopg

        query = (
            "SELECT (SELECT count(*) FROM commands_sent WHERE id NOT IN (SELECT body::json->'data'->>'command'"
            " FROM facts WHERE type = 'tillgate.command.finished.v1'))"
            " + (SELECT count(*) FROM (SELECT version FROM prices_sent ORDER BY last DESC LIMIT 1) newest WHERE version"
            " NOT IN (SELECT body::json->'data'->>'version' FROM facts WHERE type = 'tillgate.price.activated.v1'))"
        )
        try:
            with psycopg.connect(self.postgres.dsn) as db:
                row = db.execute(query).fetchone()
        except psycopg.Error:
            return None
        return int(row[0]) if row else None
