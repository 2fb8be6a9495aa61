"""Which account PostgreSQL runs as: it refuses to be root.

An ordinary user runs it under their own account. For root it is another account, which must reach
the data and the programs even if the checkout is in a closed folder such as /root. Changing the
mode of such folders is not acceptable, and copies elsewhere would stay when the checkout is
deleted. So the server then gets one capability of root, CAP_DAC_OVERRIDE, as an ambient one: it is
kept across the change of user and the start of the program, unlike all others, which are
dropped. It is also among the few that containers have by default.
"""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chat_api.local.errors import LocalError

# One of them exists on nearly every system. A uid without a name is not enough, because initdb
# looks the name up.
_ACCOUNTS = ("postgres", "nobody", "daemon")


@dataclass(frozen=True)
class Account:
    """How a program is started: the words in front of it, and the uid and gid to start it as.

    `owner` is whose the server's folders must be, None for their creator. A `privileged`
    server reaches every file, so only root may have access to it, not even that account.
    """

    prefix: tuple[str, ...] = ()
    user: tuple[int, int] | None = None
    owner: tuple[int, int] | None = None
    privileged: bool = False


def account_for(cluster: Path, outside: Path, programs: Sequence[Path]) -> Account:
    """Return the account that serves the folder `cluster`, which need not exist yet.

    `outside` is the nearest folder above it that is not ours to open. Raise LocalError if no
    account can.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise LocalError(
                f"The database in {cluster} belongs to another user. "
                "Run this as that user, or set LOCAL_DATA_DIR to a folder of your own."
            )
        return Account()
    if owner is not None and owner.st_uid != 0:
        uid, gid = owner.st_uid, owner.st_gid
    else:
        uid, gid = _unprivileged()
    for account in (
        Account(user=(uid, gid), owner=(uid, gid)),
        Account(prefix=_with_access(uid, gid), owner=(uid, gid), privileged=True),
    ):
        if _reaches(account, outside, programs):
            return account
    raise LocalError(
        f"PostgreSQL cannot run as root, and user {uid} that would run it does not reach "
        f"{outside} and {programs[0]}. Run this as an ordinary user, or move it out of the "
        "folders that only root may enter."
    )


def _unprivileged() -> tuple[int, int]:
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid
    raise LocalError(
        "PostgreSQL cannot run as root, and there is no account postgres or nobody that could "
        "run it. Run this as an ordinary user."
    )


def _with_access(uid: int, gid: int) -> tuple[str, ...]:
    only = "-all,+dac_override"
    return (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={gid}",
        "--clear-groups",
        f"--inh-caps={only}",
        f"--ambient-caps={only}",
        f"--bounding-set={only}",
        "--no-new-privs",
        # Without it access(2), with which PostgreSQL looks for its own programs, would decide by
        # the uid alone.
        "--securebits=+no_setuid_fixup",
        "--",
    )


def _reaches(account: Account, folder: Path, programs: Sequence[Path]) -> bool:
    """Return whether a process of that account can enter the folder and run the programs."""
    test = ["test", "-x", str(folder)]
    for program in programs:
        test += ["-a", "-x", str(program)]
    uid, gid = account.user or (None, None)
    try:
        done = subprocess.run(
            [*account.prefix, *test],
            check=False,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
        )
    except OSError:  # no setpriv, or not allowed to change the user
        return False
    return done.returncode == 0
