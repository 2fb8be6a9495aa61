"""Three PostgreSQL nodes under Patroni, etcd and HAProxy, from the distribution's packages.

The configurations are those of `deploy/`. Every program runs in a temporary folder, as an account
that is not root, and ends with the process that started it.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import string
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil

from chat_api.local.process import KeptProcess

DEPLOY = Path(__file__).parents[1] / "deploy"
HOST = "127.0.0.1"
_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin"
_STOP = ((signal.SIGTERM, 20.0),)


class ProgramsMissingError(Exception):
    """A program is not installed; the text says which package has it."""


def program(name: str, package: str) -> str:
    """Return the path of a program. Raise ProgramsMissingError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if found is None:
        raise ProgramsMissingError(
            f"{name} was not found. Install it: "
            f"apt-get install -y --no-install-recommends {package}"
        )
    return found


def postgres_binaries() -> Path:
    """Return the folder of the newest PostgreSQL here. Raise ProgramsMissingError."""
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if (path.parent / "pg_rewind").exists()
    ]
    if not found:
        raise ProgramsMissingError(
            "PostgreSQL was not found in /usr/lib/postgresql. Install it: "
            "apt-get install -y --no-install-recommends postgresql"
        )
    return max(found, key=lambda path: float(path.parent.name))


def free_ports(count: int) -> list[int]:
    """Return so many ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def account() -> tuple[int, int] | None:
    """Return the uid and gid for programs that refuse root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise ProgramsMissingError("As root, this needs an account postgres or nobody.")


def owned_folder(path: Path) -> Path:
    """Make a folder that only the account of the programs may enter."""
    path.mkdir(mode=0o700)
    if (owner := account()) is not None:
        os.chown(path, *owner)
    return path


def passable_folder(stack: contextlib.ExitStack, prefix: str) -> Path:
    """Make a temporary folder that the programs' account may pass; it goes with the stack."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
    folder.chmod(0o711)
    return folder


def fill_in(template: Path, target: Path, values: Mapping[str, object]) -> None:
    """Write a configuration from its template; every `${name}` must have a value."""
    text = string.Template(template.read_text("utf-8")).substitute(values)
    target.write_text(text, "utf-8")
    if (owner := account()) is not None:
        os.chown(target, *owner)


class Program:
    """A program with its log in its folder."""

    def __init__(self, argv: Sequence[str | Path], folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._kept = KeptProcess(
                argv,
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": str(folder)},
                output=log,
                stop_steps=_STOP,
                user=account(),
            )

    @property
    def running(self) -> bool:
        return self._kept.poll() is None

    def stop(self) -> None:
        self._kept.stop()

    def last_words(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])


async def until(
    condition: Callable[[], Any], timeout: float, what: str, program: Program | None = None
) -> Any:
    """Return the first true result of an async condition. Raise TimeoutError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError, OSError):
            if value := await condition():
                return value
        if program is not None and not program.running:
            raise RuntimeError(f"{what}: the program has ended.\n{program.last_words()}")
        await asyncio.sleep(0.2)
    words = "" if program is None else f"\n{program.last_words()}"
    raise TimeoutError(f"not within {timeout:g} s: {what}{words}")


@dataclass
class Node:
    """One PostgreSQL with its Patroni."""

    name: str
    folder: Path
    port: int
    rest_port: int
    patroni: Program | None = None

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        argv = [program("patroni", "patroni"), str(self.folder / "patroni.yml")]
        self.patroni = Program(argv, self.folder, "patroni")

    def processes(self) -> list[psutil.Process]:
        """Return Patroni and every process of its PostgreSQL."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_server = process.cwd() == str(self.folder / "data")
                if is_server or str(self.folder / "patroni.yml") in process.cmdline()[1:3]:
                    found.append(process)
        return found

    def kill(self) -> None:
        """SIGKILL all of them at once, as a machine that loses its power."""
        processes = self.processes()
        for act in (psutil.Process.suspend, psutil.Process.kill):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    act(process)
        if self.patroni is not None:
            self.patroni.stop()

    def stop(self) -> None:
        if self.patroni is not None:
            self.patroni.stop()


class Cluster:
    """Three nodes, one etcd and one HAProxy. `async with` starts and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(16)
        self._binaries = postgres_binaries()
        ports = free_ports(9)
        self._etcd_port, self._peer_port, self.proxy_port = ports[:3]
        self.nodes = [
            Node(name, folder / name, ports[3 + 2 * number], ports[4 + 2 * number])
            for number, name in enumerate(("one", "two", "three"))
        ]
        self._programs: list[Program] = []
        self.http = httpx2.AsyncClient(trust_env=False, verify=False, timeout=5)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        # Asked for before anything is started, so that all that is missing is said at once.
        haproxy = program("haproxy", "haproxy")
        program("patroni", "patroni")
        self._start_etcd()
        for node in self.nodes:
            owned_folder(node.folder)
            self._configure(node)
        first, *others = self.nodes
        first.start()
        await until(self.primary, 90, "a first primary", first.patroni)
        for node in others:
            node.start()
        await self.whole()
        config = owned_folder(self.folder / "haproxy") / "haproxy.cfg"
        values: dict[str, object] = {"bind": f"{HOST}:{self.proxy_port}"}
        for node in self.nodes:
            values |= {node.name: f"{HOST}:{node.port}", f"{node.name}_rest": node.rest_port}
        fill_in(DEPLOY / "ha" / "haproxy.cfg", config, values)
        self._programs.append(Program([haproxy, "-db", "-f", config], config.parent, "haproxy"))

    def _start_etcd(self) -> None:
        folder = owned_folder(self.folder / "etcd")
        client, peer = (f"http://{HOST}:{port}" for port in (self._etcd_port, self._peer_port))
        argv = [program("etcd", "etcd-server"), "--name=etcd", f"--data-dir={folder}/data"]
        argv += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        argv += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        argv += [f"--initial-cluster=etcd={peer}", "--logger=zap"]
        self._programs.append(Program(argv, folder, "etcd"))

    def _configure(self, node: Node) -> None:
        fill_in(
            DEPLOY / "ha" / "patroni.yml",
            node.folder / "patroni.yml",
            {
                "name": node.name,
                "host": HOST,
                "port": node.port,
                "rest_port": node.rest_port,
                "etcd": f"{HOST}:{self._etcd_port}",
                "folder": node.folder,
                "binaries": self._binaries,
                "password": self.password,
            },
        )

    async def _stop(self) -> None:
        await self.http.aclose()
        for node in self.nodes:
            await asyncio.to_thread(node.stop)
        for one in reversed(self._programs):
            await asyncio.to_thread(one.stop)

    async def members(self) -> dict[str, dict[str, Any]]:
        """Return what Patroni says of each node, by name."""
        for node in self.nodes:
            with contextlib.suppress(httpx2.TransportError):
                response = await self.http.get(f"http://{HOST}:{node.rest_port}/cluster")
                return {member["name"]: member for member in response.json()["members"]}
        return {}

    async def primary(self) -> Node | None:
        """Return the node that takes writes, where there is one."""
        for node in self.nodes:
            with contextlib.suppress(httpx2.TransportError):
                response = await self.http.get(f"http://{HOST}:{node.rest_port}/primary")
                if response.status_code == 200:
                    return node
        return None

    async def whole(self) -> None:
        """Wait for a primary and two standbys that follow it, one of them synchronous."""

        async def is_whole() -> bool:
            members = await self.members()
            roles = sorted(
                member["role"] for member in members.values() if member["state"] == "running"
            )
            return roles == ["leader", "replica", "sync_standby"]

        await until(is_whole, 120, "three running nodes")

    async def switch_over(self) -> tuple[str, str]:
        """Hand over to the synchronous standby; return the names of the old and the new primary."""
        members = await self.members()
        by_role = {member["role"]: name for name, member in members.items()}
        old, new = by_role["leader"], by_role["sync_standby"]
        port = next(node.rest_port for node in self.nodes if node.name == old)
        response = await self.http.post(
            f"http://{HOST}:{port}/switchover", json={"leader": old, "candidate": new}, timeout=60
        )
        if response.status_code != 200:
            raise RuntimeError(f"switchover: {response.status_code} {response.text}")
        return old, new

    def by_hosts(self, database: str) -> str:
        """Return the address that names all nodes."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return (
            f"postgresql://postgres:{self.password}@{hosts}/{database}"
            "?target_session_attrs=read-write"
        )

    def by_proxy(self, database: str) -> str:
        """Return the address of HAProxy."""
        return f"postgresql://postgres:{self.password}@{HOST}:{self.proxy_port}/{database}"
