"""Running the application under uvicorn (docs/decisions/0004), with what uvicorn leaves open."""

import os
import shutil
import signal
import socket
import tempfile

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A client whose machine vanished, or that takes nothing any more, is given up by the kernel.
_USER_TIMEOUT_MS = 45_000
_ABORT_EXTENSION = "samosachaat.abort"  # as in chat_api.api.responses


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, whose connections can be cut and do not hang half-open."""

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        connection = self.transport.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT_EXTENSION: self.transport.abort}  # type: ignore[dict-item]


def run(host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or SIGINT, and leave in order; the process's exit code.

    The settings are read from the environment, by each worker anew.
    """
    # After its shutdown uvicorn raises the signal once more. An ordered end is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _nothing)
    metrics = None
    if workers > 1:
        # prometheus_client adds up what the workers counted, through files in this folder.
        metrics = tempfile.mkdtemp(prefix="samosachaat-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    try:
        uvicorn.run(
            "chat_api.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=Protocol,
            ws="none",
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            # The drain has ended every stream by now; whoever is left has had its time.
            timeout_graceful_shutdown=5,
        )
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    finally:
        if metrics is not None:
            shutil.rmtree(metrics, ignore_errors=True)
    return 0


def _nothing(_number: int, _frame: object) -> None:
    """The second time a signal comes, there is nothing left to do."""
