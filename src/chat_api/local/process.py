"""A child process that never outlives the one that started it."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from chat_api.local import keeper

# Beyond the program's own stopping time; the keeper needs milliseconds.
_KEEPER_SECONDS = 10.0


class KeptProcess:
    """One program under a keeper (see keeper.py), in a session of its own.

    No Ctrl-C of the terminal reaches it. It ends by itself, on `stop()`, or when this process dies
    for any reason. `stop_steps` are pairs of a signal and the seconds that it gets; after the
    last pair it is killed, with everything in its process group.

    `output` is where its standard output goes, `errors` standard error (None: where ours goes).
    `user` is a uid and gid to run as (only root can), `keep_open` descriptors which the keeper,
    not the program, holds for as long as it lives: locks.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | int = subprocess.DEVNULL,
        errors: IO[bytes] | int | None = subprocess.STDOUT,
        stop_steps: Sequence[tuple[int, float]] = (),
        user: tuple[int, int] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._patience = sum(seconds for _, seconds in stop_steps) + _KEEPER_SECONDS
        spec = {
            "argv": [str(part) for part in argv],
            "user": user,
            "stop": [(int(number), seconds) for number, seconds in stop_steps],
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=dict(env),
            start_new_session=True,
            pass_fds=keep_open,
        )

    def poll(self) -> int | None:
        """Return the program's exit code, or None while it runs."""
        if (code := self._keeper.poll()) is not None:
            self.begin_stop()  # closes the pipe, which has no reader any more
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the program to end by itself. Raises subprocess.TimeoutExpired."""
        code = self._keeper.wait(timeout)
        self.begin_stop()
        return code

    def begin_stop(self) -> None:
        """Tell the program to end, and return at once."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()

    def hurry(self) -> None:
        """Take the next step of stopping now, without waiting for its time."""
        if self._keeper.poll() is None:
            self._keeper.terminate()

    def stop(self) -> int:
        """End the program, wait for its end, and return its exit code. Idempotent."""
        self.begin_stop()
        return self._keeper.wait(self._patience)
