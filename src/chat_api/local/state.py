"""The data folder of the local stack: keys, logs, models, the database."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from chat_api.local.errors import LocalError

_LEAST_FREE_BYTES = 500_000_000


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Raise LocalError with a sentence about `folder` for an OSError inside the block."""
    try:
        yield
    except OSError as error:
        raise LocalError(
            f"{error.filename or folder} cannot be used: {error.strerror}. "
            "Correct that, or set LOCAL_DATA_DIR to a folder of your own."
        ) from error


class State:
    """The data folder at `root`, created when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / "postgres"
        self.logs = root / "logs"

    def secret(self, name: str) -> str:
        """Return the random text (64 hexadecimal digits) of that name, created at the first call.

        It is in `<name>.key`, readable by its owner only. Simultaneous callers all get the same
        complete text.
        """
        path = self.root / f"{name}.key"
        with usable(self.root):
            if not path.exists():
                self.root.mkdir(parents=True, exist_ok=True)
                self._create_once(path, secrets.token_hex(32))
            text = path.read_text("ascii", "replace").strip()
        if len(text) < 64:
            raise LocalError(f"{path} does not hold a key. Remove it, and a new one is made.")
        return text

    def check_space(self) -> None:
        """Raise LocalError if the disk is nearly full; PostgreSQL stops where it is."""
        with usable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free
        if free < _LEAST_FREE_BYTES:
            raise LocalError(
                f"Only {free // 1_000_000} MB are free on the disk of {self.root}; the stack needs "
                f"{_LEAST_FREE_BYTES // 1_000_000} MB. Free some, or set LOCAL_DATA_DIR to a "
                "folder on another disk."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one stack. Raise LocalError at once if another has it."""
        with usable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError(
                    f"A stack is already running over {self.root}. Use that one, end it, or set "
                    "LOCAL_DATA_DIR to another folder (and other ports)."
                ) from None
            yield
        finally:
            os.close(descriptor)

    def new_log(self, name: str) -> Path:
        """Return a new, empty log file for a child; the one of the last run becomes `.old`."""
        path = self.logs / f"{name}.log"
        with usable(self.logs):
            self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_suffix(".log.old"))
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return path

    @staticmethod
    def _create_once(path: Path, text: str) -> None:
        """Write the file as a whole, unless another process was first."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                # A link, not a rename: that would replace the key of the first process.
                os.link(draft, path)
        finally:
            draft.unlink()
