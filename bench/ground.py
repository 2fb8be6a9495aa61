"""What is measured, and what it is measured on: processes, pinned to cores, on loopback.

What stands between client and inference runs on the first core, alone; PostgreSQL, the neighbours
and the clients share the second. On a machine with one core everything shares it, and the
numbers are worth less.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from bench import answers, load, pages
from chat_api.local.postgres import EmbeddedPostgres

KEY = "a-key-of-the-benchmarks-3f9b2c"
_CORES = sorted(os.sched_getaffinity(0))
SERVICE_CORE, OTHER_CORE = _CORES[0], _CORES[-1]
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream inference {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://inference; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 3600s;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Subject:
    """A process under measurement that listens on a port."""

    port: int
    pid: int
    started_seconds: float
    """From its start to its first answer."""


class Ground:
    """PostgreSQL and the neighbours; and, one at a time, what is measured."""

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, {OTHER_CORE})
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._postgres = EmbeddedPostgres(self.folder / "postgres")
            stack.enter_context(self._postgres)
            self._postgres.create_database("bench")
            self.database_url = self._postgres.url("bench").replace("+asyncpg", "")
            self.upstream = free_port()
            stack.enter_context(
                running([sys.executable, "-m", "bench.upstream", "--port", str(self.upstream)])
            )
            wait_for_port(self.upstream)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def postgres_pid(self) -> int:
        return int((self.folder / "postgres/data/postmaster.pid").read_text().split()[0])

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings that all subjects share."""
        neighbours = f"http://127.0.0.1:{self.upstream}"
        return {
            "DATABASE_URL": self.database_url.replace("postgresql://", "postgresql+asyncpg://"),
            "AUTH_SERVICE_URL": neighbours,
            "INFERENCE_SERVICE_URL": neighbours,
            "INTERNAL_API_KEY": KEY,
            "LOG_LEVEL": "WARNING",
        }

    def copy_database(self, name: str) -> str:
        """Return the address of a copy of the database, to which no connection may be open."""
        self._postgres.create_database(name, "bench")
        return self._postgres.url(name).replace("+asyncpg", "")

    def sql(self, statement: str, database: str | None = None) -> None:
        """Run a statement in the database of the benchmarks, or in the copy with this address."""

        async def run() -> None:
            connection = await asyncpg.connect(database or self.database_url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    @contextmanager
    def service(self, database: str | None = None, **settings: str) -> Iterator[Subject]:
        """Lend the chat API, with every promise on, and no answers of an earlier one to take up."""
        with suppress(asyncpg.UndefinedTableError):
            self.sql("TRUNCATE generations, event_log, subscriptions", database)
        if database is not None:
            settings["DATABASE_URL"] = database.replace("postgresql://", "postgresql+asyncpg://")
        port = free_port()
        command = [sys.executable, "-m", "chat_api.cli", "serve", "--port", str(port)]
        environment = {**self.environment, "DRAIN_SECONDS": "0", **settings}
        with self._subject(command, port, "/api/ready", environment) as subject:
            yield subject

    @contextmanager
    def textbook(self) -> Iterator[Subject]:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "bench.textbook:app", "--port", str(port)]
        command += ["--log-level", "warning", "--no-access-log"]
        with self._subject(command, port, "/docs", self.environment) as subject:
            yield subject

    @contextmanager
    def nginx(self) -> Iterator[Subject]:
        """nginx, passing the inference service's streams through. Raises FileNotFoundError."""
        binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        if binary is None:
            raise FileNotFoundError("nginx")
        port = free_port()
        config = self.folder / "nginx.conf"
        text = _NGINX.format(folder=self.folder, port=port, upstream=self.upstream)
        if os.geteuid() == 0:
            text = "user root;" + text
        config.write_text(text)
        with self._subject([binary, "-c", str(config), "-e", "stderr"], port, "/", {}) as subject:
            yield subject

    @contextmanager
    def _subject(
        self, command: list[str], port: int, path: str, environment: Mapping[str, str]
    ) -> Iterator[Subject]:
        began = time.monotonic()
        with running(command, environment, core=SERVICE_CORE) as process:
            wait_for_answer(f"http://127.0.0.1:{port}{path}", process)
            yield Subject(port, process.pid, time.monotonic() - began)

    def get(self, subject: Subject, path: str, user: str) -> dict[str, Any]:
        """Return a page's JSON."""
        request = urllib.request.Request(  # an address of our own making
            f"http://127.0.0.1:{subject.port}{path}", headers={"authorization": f"Bearer {user}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # an address of ours too
            document: dict[str, Any] = json.load(response)
        return document

    # --- measuring -------------------------------------------------------------------------------

    def load(self, subject: Subject, **plan: Any) -> load.Result:
        """Streams through the subject: see `load.Plan`."""
        watch = {"subject": subject.pid, "postgres": self.postgres_pid}
        return load.Result(**_run("bench.load", {"port": subject.port, "watch": watch, **plan}))

    def answers(self, subject: Subject, **plan: Any) -> answers.Result:
        """Short answers, one after the other: see `answers.Plan`."""
        watch = {"subject": subject.pid, "postgres": self.postgres_pid}
        return answers.Result(
            **_run("bench.answers", {"port": subject.port, "watch": watch, **plan})
        )

    def pages(self, subject: Subject, **plan: Any) -> pages.Result:
        """Requests for a page: see `pages.Plan`."""
        watch = {"subject": subject.pid, "postgres": self.postgres_pid}
        return pages.Result(**_run("bench.pages", {"port": subject.port, "watch": watch, **plan}))


def _run(module: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", module, json.dumps(plan)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def running(
    command: list[str], environment: Mapping[str, str] | None = None, *, core: int = OTHER_CORE
) -> Iterator[subprocess.Popen[bytes]]:
    """Lend the command, on its core, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PINNED, str(core), *command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_PINNED = """import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.execvp(sys.argv[2], sys.argv[2:])"""


def free_port() -> int:
    with socket.socket() as claim:
        claim.bind(("127.0.0.1", 0))
        return int(claim.getsockname()[1])


def wait_for_port(port: int) -> None:
    while True:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


def wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the address answers with anything but 503. Raises RuntimeError where it ended."""
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # our own address
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.01)
