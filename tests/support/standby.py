"""A standby of an embedded PostgreSQL, which can become the primary."""

from pathlib import Path

from chat_api.local.accounts import Account
from chat_api.local.postgres import EmbeddedPostgres

# What the primary calls it: with this in `synchronous_standby_names`, nothing is acknowledged that
# it does not have.
NAME = "standby"


class Standby(EmbeddedPostgres):
    """A copy of a running server that follows it, and is read-only until it is promoted."""

    def __init__(self, data: Path, primary: EmbeddedPostgres) -> None:
        super().__init__(data)
        self._primary = primary

    def _making(self, binaries: Path, new: Path) -> list[str | Path]:
        """The command that copies the primary."""
        origin = f"host={self._primary._sockets} port=5432 user=postgres application_name={NAME}"
        return [
            binaries / "pg_basebackup",
            f"--pgdata={new}",
            f"--dbname={origin}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
        ]

    def _run(self, binaries: Path, account: Account, lock: int) -> None:
        # The copy has the lock of the primary's socket.
        (self._cluster / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        super()._run(binaries, account, lock)

    def promote(self) -> None:
        """Let it take writes; returns when it does."""
        self._sql("SELECT pg_promote(true, 30)")


def address(database: str, *servers: EmbeddedPostgres) -> str:
    """The address of a database that is on one of these servers."""
    hosts = ",".join(str(server._sockets) for server in servers)
    return f"postgresql+asyncpg://postgres@/{database}?host={hosts}"
