"""A real PostgreSQL server for tests: its own folder, its own port on loopback, gone at the end."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))


def postgresql_programs() -> Path | None:
    """The folder with the newest installed initdb and postgres; None when there is none."""
    if _INSTALLED and (_INSTALLED[-1] / "initdb").exists():
        return _INSTALLED[-1]
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgresql_server(programs: Path) -> Iterator["PostgresqlServer"]:
    """A server that lives as long as the block. It runs as user postgres when we are root, as ourselves otherwise."""
    with tempfile.TemporaryDirectory(prefix="scanwarden-postgresql-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        data = folder / "data"
        arguments = ["--auth=trust", "--username=scanwarden", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [str(programs / "initdb"), "-D", str(data), *arguments], check=True, capture_output=True, cwd=folder, **user
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # No test cuts the machine's power, so the server need not wait for the disk.
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        program = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]

        def control(*arguments: str) -> bool:
            done = subprocess.run([*program, *arguments], check=False, capture_output=True, cwd=folder, **user)
            return done.returncode == 0

        server = PostgresqlServer(port, control, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class PostgresqlServer:
    """A running server; hands out empty databases. It can be stopped, and started again with all that it had."""

    def __init__(self, port: int, control: Callable[..., bool], options: str) -> None:
        self.port = port
        self._control, self._options = control, options
        self._emptied: list[str] = []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not self._control("-o", self._options, "start"):
            raise RuntimeError("PostgreSQL does not start")

    def stop(self) -> None:
        """Stop it at once, as a crash would; its connections break."""
        self._control("-m", "immediate", "stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        if self._emptied:
            return self._emptied.pop()
        name = f"scanwarden_{uuid4().hex[:12]}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._url(name)

    def give_back(self, url: str) -> None:
        """Empty a database for the next test: far quicker than another one."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        self._emptied.append(url)

    def _url(self, database: str) -> str:
        return f"postgresql://scanwarden@127.0.0.1:{self.port}/{database}"
