"""Fixtures of the bridge's tests: a store's configuration, brokers, and HQ's database on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from cloud_bridge.hq.schema import open_engine
from edge.config import StoreConfig, load
from tests.cloud_bridge.rig import STORE, Mosquitto, a_port

Configure = Callable[..., StoreConfig]


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    on_path = shutil.which("postgres")
    if not found and not on_path:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql (./dev test does it)")
    return found[0].parent if found else Path(str(on_path)).parent


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL prefix of a PostgreSQL of our own, in a folder of its own, on a free port of 127.0.0.1."""
    binaries = _postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="tillgate-pg-"))
    become: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    data, port = folder / "data", a_port()
    subprocess.run(
        [*become, str(binaries / "initdb"), "-D", str(data), "-U", "hq", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    arguments = ["-D", str(data), "-k", str(folder), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    command = [*become, "setpriv", "--pdeathsig", "QUIT", "--", str(binaries / "postgres"), *arguments]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        url = f"postgresql+psycopg://hq@127.0.0.1:{port}"
        _wait_for(f"{url}/postgres", server)
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: this database is thrown away
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + 60
    while True:
        try:
            engine.connect().close()
        except OperationalError:
            assert server.poll() is None, "PostgreSQL ended at once"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)
        else:
            engine.dispose()
            return


@pytest.fixture(params=["sqlite", "postgresql"])
def hq_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of HQ, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hq.db'}"
    server = request.getfixturevalue("postgres")
    name = f"t{time.monotonic_ns()}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


@pytest.fixture
def hq(hq_url: str) -> Iterator[Engine]:
    """HQ's database, open."""
    engine = open_engine(hq_url)
    yield engine
    engine.dispose()


@pytest.fixture
def hq_file(tmp_path: Path) -> Iterator[Engine]:
    """HQ's database on SQLite only, where the kind of database is not what is tested."""
    engine = open_engine(f"sqlite:///{tmp_path / 'hq.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """The cloud broker."""
    broker = Mosquitto(tmp_path / "cloud")
    await broker.start()
    yield broker
    await broker.kill()


@pytest.fixture
async def configure(tmp_path: Path) -> AsyncIterator[Configure]:
    """A function (cloud port, extra lines for [cloud], host) -> configuration, with the store's own broker running."""
    local = Mosquitto(tmp_path / "local", path=tmp_path / "state" / "run" / "broker.sock")
    await local.start()

    def make(port: int, more: str = "", host: str = "127.0.0.1") -> StoreConfig:
        file = tmp_path / "store.toml"
        file.write_text(
            f'state_dir = "state"\n[store]\nid = "{STORE}"\n[[lanes]]\nid = "1"\n'
            f'[cloud]\nhost = "{host}"\nport = {port}\n'
            + ("" if "profile" in more else 'profile = "mosquitto"\n')
            + more
        )
        return load(file)

    yield make
    await local.kill()
