"""Run the application under uvicorn, in one or several workers, until a signal ends it."""

import functools
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import uvicorn

from chat_api import signals
from chat_api.background import Background
from chat_api.http_protocol import Bounds, Protocol
from chat_api.settings import Settings
from chat_api.telemetry import configure_logging, log

# Open files of a process that are not client connections: database, logs, libraries.
_OTHER_FILES = 200


def run(host: str, port: int, workers: int, settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, drain and shut down, and return the process's exit code.

    The application reads its settings from the environment, in each worker again.
    """
    configure_logging(settings.log_level)
    if workers > 1:
        _start_the_resource_tracker()
    signals.handle_early()
    with _metrics_folder(workers):
        try:
            uvicorn.run(
                "chat_api.app:create_app",
                factory=True,
                host=host,
                port=port,
                workers=workers,
                http=functools.partial(  # type: ignore[arg-type]
                    Protocol, bounds=_bounds(settings), origins=settings.origins
                ),
                ws="none",
                loop="uvloop",
                log_config=None,
                access_log=False,
                server_header=False,
                # The address is the socket's, except as TRUSTED_PROXIES says (chat_api.app).
                proxy_headers=False,
                timeout_keep_alive=settings.keep_alive_seconds,
                # The drain has ended every stream before this begins.
                timeout_graceful_shutdown=1,
                # On a busy machine, a worker that is slow to start or to respond is not dead.
                timeout_worker_healthcheck=30,
            )
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
            return code or int(Background.died)
        finally:
            signals.ignore()
    return int(Background.died)


def _start_the_resource_tracker() -> None:
    """Start multiprocessing's helper so that it ignores SIGHUP, as it ignores SIGINT and SIGTERM.

    A terminal that closes sends SIGHUP to every process.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource_tracker.ensure_running()
    signal.signal(signal.SIGHUP, before)


@contextmanager
def _metrics_folder(workers: int) -> Iterator[None]:
    """Within the block, workers share a folder, through which `/metrics` adds up their counts.

    Where no folder can be made, each worker answers `/metrics` for itself.
    """
    if workers == 1:
        yield
        return
    try:
        folder = tempfile.mkdtemp(prefix="samosachaat-metrics-")
    except OSError as error:
        log.warning(
            "metrics_not_added_up",
            error=type(error).__name__,
            hint="set TMPDIR to a folder that can be written",
        )
        yield
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_limit() -> int:
    """Return how many files this process may open, after raising the limit as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def _bounds(settings: Settings) -> Bounds:
    files = _file_limit()
    connections = settings.max_connections
    if files != resource.RLIM_INFINITY:
        # A stream may need two files: its client's connection and that to the engine.
        connections = min(connections, max(1, (files - _OTHER_FILES) // 2))
    if connections < settings.max_connections:
        log.warning("fewer_connections", most=connections, files=files)
    return Bounds(connections, settings.max_header_bytes, settings.request_seconds)
