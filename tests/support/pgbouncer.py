"""PgBouncer between the service and an embedded PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.waiting import eventually_sync

from chat_api.local.accounts import account_for
from chat_api.local.postgres import EmbeddedPostgres

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class PgBouncer:
    """One that pools by session or by transaction, with its own defaults for all else."""

    def __init__(self, server: EmbeddedPostgres, mode: Literal["session", "transaction"]) -> None:
        assert PROGRAM is not None, "PgBouncer is needed: apt-get install pgbouncer"
        self._server = server
        self._mode = mode
        # The socket's path must be short, and PgBouncer's account must reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        (self.folder / "users.txt").write_text('"postgres" ""\n')
        (self.folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={self._server._sockets} port=5432
[pgbouncer]
listen_addr =
unix_socket_dir = {self.folder}
listen_port = 6432
auth_type = trust
auth_file = {self.folder}/users.txt
pool_mode = {self._mode}
default_pool_size = {60 if self._mode == "session" else 4}
max_client_conn = 200
logfile = {self.folder}/log
"""
        )
        # It refuses to be root, and must reach the server's socket as the server itself does.
        account = account_for(self._server._cluster, self._server._home.parent, [Path(PROGRAM)])
        if account.owner is not None:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, *account.owner)
        uid, gid = account.user or (None, None)
        self._process = subprocess.Popen(
            [*account.prefix, PROGRAM, "-q", str(self.folder / "pgbouncer.ini")],
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually_sync(lambda: (self.folder / ".s.PGSQL.6432").exists(), what="PgBouncer")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, direct: str) -> str:
        """The address of a database by way of PgBouncer, from that of the server itself."""
        database = direct.partition("?")[0].rpartition("/")[2]
        return f"postgresql+asyncpg://postgres@/{database}?host={self.folder}&port=6432"
