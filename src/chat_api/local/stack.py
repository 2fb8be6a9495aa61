"""The chat API and all services that it needs on one machine: `samosachaat up`."""

import contextlib
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chat_api import frontend
from chat_api.local import web
from chat_api.local.errors import LocalError
from chat_api.local.models import ModelFolder
from chat_api.local.postgres import EmbeddedPostgres
from chat_api.local.process import KeptProcess
from chat_api.local.settings import LocalSettings
from chat_api.local.signals import Signals, caught
from chat_api.local.state import State
from chat_api.local.tokens import mint_token
from chat_api.settings import Settings

_DATABASE = "samosachaat"
_USER = "samosa"
_TOKEN_SECONDS = 24 * 3600
_POLL_SECONDS = 0.05
_PROBE_SECONDS = 2.0
_LOG_LINES = 12
_NEIGHBOUR_SECONDS = 5.0
# After its drain the API closes remaining streams, and its database connections.
_AFTER_DRAIN_SECONDS = 15.0


class _Stopped(Exception):
    """A signal asks the stack to end."""


@dataclass
class _Child:
    """A service of the stack; `path` answers 200 once it is ready."""

    name: str
    process: KeptProcess
    log: Path
    port: int
    path: str
    note: str = ""
    began: float = field(default_factory=time.monotonic)


def up(settings: LocalSettings) -> int:
    """Run the stack until a signal ends it; return 0 after the end of all its processes.

    Raise LocalError, with everything ended too, if it cannot start or one of its services ends
    by itself. Only for the main thread.
    """
    state = State(settings.data_dir)
    with state.locked(), caught() as signals:
        state.check_space()
        if not _own_engine():
            ModelFolder(settings.model_dir).find(settings.local_model)
        _require_ports(settings)
        stack = _Stack(settings, state, signals)
        try:
            stack.start()
            stack.watch()
        except _Stopped:
            _say("\nStopping. Press Ctrl-C again to skip the waiting.")
        finally:
            stack.stop()
    return 0


class _Stack:
    def __init__(self, settings: LocalSettings, state: State, signals: Signals) -> None:
        self._settings = settings
        self._state = state
        self._signals = signals
        self._postgres = EmbeddedPostgres(state.database)
        self._children: list[_Child] = []
        self._environment = _environment(settings, state, self._postgres)

    def start(self) -> None:
        """Start everything; print when each service is ready. Raise LocalError and _Stopped."""
        settings = self._settings
        _say(f"samosaChaat, in {self._state.root} (a log of each service in logs/)")
        # The model takes longest and needs no other process.
        inference = self._spawn_inference()
        self._start_database()
        auth = self._spawn(
            "auth",
            ["-m", "chat_api.local.auth"],
            port=settings.local_auth_port,
            path="/health",
        )
        api = self._spawn(
            "chat API",
            ["-m", "chat_api.cli", "serve", "--host", web.HOST],
            port=settings.local_api_port,
            path="/api/ready",
            stop_seconds=_drain_seconds(self._environment) + _AFTER_DRAIN_SECONDS,
        )
        page = self._spawn_page()
        for child in (auth, *inference, api, *page):
            self._wait_until_ready(child)
        token = mint_token(self._state.root, _USER, True, _TOKEN_SECONDS)
        _say(_how_to_use(settings, token))

    def watch(self) -> None:
        """Watch the services until there is a reason to end. Raise LocalError or _Stopped."""
        while True:
            self._look()
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End everything; each service ends before those that it uses."""
        seen = self._signals.count
        for child in reversed(self._children):
            child.process.begin_stop()
            while child.process.poll() is None:
                if self._signals.count > seen:
                    seen = self._signals.count
                    child.process.hurry()
                time.sleep(_POLL_SECONDS)
        self._postgres.stop()
        _say("Everything has ended.")

    def _start_database(self) -> None:
        began = time.monotonic()
        self._postgres.start()
        if not self._postgres.has_database(_DATABASE):
            self._postgres.create_database(_DATABASE)
        _say(_ready("PostgreSQL", time.monotonic() - began, str(self._state.database)))
        began = time.monotonic()
        log = self._state.new_log("migrate")
        migrate = self._process(["-m", "chat_api.cli", "migrate"], log, 1.0)
        try:
            while (code := migrate.poll()) is None:
                self._look()
                time.sleep(_POLL_SECONDS)
        finally:
            migrate.stop()
        if code != 0:
            raise LocalError(f"The database's schema could not be made.\n{_tail(log)}")
        _say(_ready("schema", time.monotonic() - began))

    def _spawn_inference(self) -> list[_Child]:
        if engine := _own_engine():
            _say(f"  {'inference':<12}left out: answers come from {engine}")
            return []
        return [
            self._spawn(
                "inference",
                ["-m", "chat_api.local.inference"],
                port=self._settings.local_inference_port,
                path="/health",
                note=self._settings.local_model,
            )
        ]

    def _spawn_page(self) -> list[_Child]:
        if not frontend.is_built():
            _say(f"  {'chat page':<12}left out: {frontend.NOT_BUILT}")
            return []
        return [
            self._spawn(
                "chat page",
                ["-m", "chat_api.local.page"],
                port=self._settings.local_page_port,
                path="/",
            )
        ]

    def _spawn(
        self,
        name: str,
        arguments: list[str],
        *,
        port: int,
        path: str,
        note: str = "",
        stop_seconds: float = _NEIGHBOUR_SECONDS,
    ) -> _Child:
        log = self._state.new_log(name.replace(" ", "-").lower())
        process = self._process([*arguments, "--port", str(port)], log, stop_seconds)
        child = _Child(name, process, log, port, path, note)
        self._children.append(child)
        return child

    def _process(self, arguments: list[str], log: Path, stop_seconds: float) -> KeptProcess:
        with log.open("ab") as output:
            return KeptProcess(
                # -P: a file of the current folder must not be imported as a module.
                [sys.executable, "-P", *arguments],
                env=self._environment,
                output=output,
                stop_steps=((signal.SIGTERM, stop_seconds),),
            )

    def _wait_until_ready(self, child: _Child) -> None:
        while not _answers(child):
            self._look()
            time.sleep(_POLL_SECONDS)
        address = f"http://{web.HOST}:{child.port}"
        note = f"{address}  {child.note}".rstrip()
        _say(_ready(child.name, time.monotonic() - child.began, note))

    def _look(self) -> None:
        """Raise _Stopped after a signal, LocalError if a service has ended."""
        if self._signals.count:
            raise _Stopped
        for child in self._children:
            if (code := child.process.poll()) is not None:
                raise LocalError(
                    f"The service {child.name} has ended (exit code {code}). "
                    f"The end of its log, {child.log}:\n{_tail(child.log)}"
                )
        if self._postgres.poll() is not None:
            log = self._postgres.log
            raise LocalError(f"PostgreSQL has ended. The end of its log, {log}:\n{_tail(log)}")


def _environment(
    settings: LocalSettings, state: State, postgres: EmbeddedPostgres
) -> dict[str, str]:
    """Return the children's environment: the caller's variables, and the services' addresses."""
    key = state.secret("internal")
    return (
        os.environ
        | _engine(settings, key)
        | {
            "DATABASE_URL": postgres.url(_DATABASE),
            "AUTH_MODE": "service",
            "AUTH_SERVICE_URL": f"http://{web.HOST}:{settings.local_auth_port}",
            "FRONTEND_URL": ",".join(_origins(settings)),
            "INTERNAL_API_KEY": key,
            "LOCAL_DATA_DIR": str(settings.data_dir),
            "LOCAL_MODEL_DIR": str(settings.model_dir),
            "PYTHONUNBUFFERED": "1",
        }
    )


def _own_engine() -> str:
    """Return the address of the caller's own engine; empty for the built-in model."""
    return os.environ.get("OPENAI_BASE_URL", "")


def _engine(settings: LocalSettings, key: str) -> dict[str, str]:
    """Return the engine's variables: the caller's own engine, else the built-in model.

    The built-in model speaks OpenAI's dialect with INFERENCE_API=openai.
    """
    if url := _own_engine():
        return {
            "INFERENCE_API": "openai",
            "INFERENCE_SERVICE_URL": url,
            "INFERENCE_API_KEY": os.environ.get("OPENAI_API_KEY", ""),
        }
    address = f"http://{web.HOST}:{settings.local_inference_port}"
    if os.environ.get("INFERENCE_API") == "openai":
        return {"INFERENCE_SERVICE_URL": f"{address}/v1", "INFERENCE_API_KEY": key}
    return {"INFERENCE_SERVICE_URL": address}


def _origins(settings: LocalSettings) -> list[str]:
    """Return the page's origins: our own port, and those of FRONTEND_URL (a dev server)."""
    ours = [f"http://{host}:{settings.local_page_port}" for host in ("localhost", web.HOST)]
    return [*ours, *filter(None, [os.environ.get("FRONTEND_URL")])]


def _drain_seconds(environment: Mapping[str, str]) -> float:
    """Return the API's drain time; the API itself refuses an invalid number."""
    default: float = Settings.model_fields["drain_seconds"].default
    try:
        return float(environment.get("DRAIN_SECONDS", default))
    except ValueError:
        return default


def _require_ports(settings: LocalSettings) -> None:
    names = ["local_api_port", "local_auth_port"]
    if not _own_engine():
        names.append("local_inference_port")
    if frontend.is_built():
        names.append("local_page_port")
    ports = {name: int(getattr(settings, name)) for name in names}
    if len(set(ports.values())) < len(ports):
        said = ", ".join(f"{name.upper()}={port}" for name, port in ports.items())
        raise LocalError(f"Every service needs a port of its own; these are set: {said}.")
    for name, port in ports.items():
        if web.is_taken(port):
            raise LocalError(
                f"Port {port} is taken by another program. End that one, or set {name.upper()} "
                "to a free port."
            )


def _answers(child: _Child) -> bool:
    """Return whether the service is ready."""
    connection = http.client.HTTPConnection(web.HOST, child.port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", child.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])


def _ready(name: str, seconds: float, note: str = "") -> str:
    return f"  {name:<12}ready after {seconds:4.1f} s  {note}".rstrip()


def _how_to_use(settings: LocalSettings, token: str) -> str:
    address = f"http://{web.HOST}:{settings.local_api_port}"
    page = f"\nChat here: http://localhost:{settings.local_page_port}\n" * frontend.is_built()
    question = shlex.quote(json.dumps({"content": "What is the capital of France?"}))
    return f"""{page}
A token for the user {_USER} (an admin), good for a day; others: samosachaat token --help

TOKEN={token}

A conversation, to paste into another terminal:

ID=$(curl -s -X POST -H "Authorization: Bearer $TOKEN" {address}/api/conversations | \
sed 's/.*"id" *: *"\\([^"]*\\)".*/\\1/')
curl -sSN -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
-d {question} {address}/api/conversations/$ID/messages

Press Ctrl-C to stop everything; the data is kept."""


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # nothing reads the output any more; the shutdown must continue
        with contextlib.suppress(OSError):
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
