"""The edge's map: the file, and HAProxy's runtime API."""

import asyncio
from pathlib import Path

import pytest

from chat_api.edge_map import EdgeMap, EdgeRefused


async def test_the_file_keeps_other_lines_and_each_user_once(tmp_path: Path) -> None:
    path = tmp_path / "cells.map"
    path.write_text("# users of the second cell\nbob cell_two\nalice cell_one\nalice2 cell_two\n")
    path.chmod(0o640)
    edge = EdgeMap(path)
    for _ in range(2):
        await edge.put("alice", "cell_two")
        assert edge.read() == {"bob": "cell_two", "alice2": "cell_two", "alice": "cell_two"}
        assert path.read_text().startswith("# users of the second cell\n")
        assert path.stat().st_mode & 0o777 == 0o640
    assert not path.with_name("cells.map.new").exists()


@pytest.mark.parametrize(
    "name", ["", "a b", "a;del map", "#a", "a\nb", "a\\b", "ü", "a\0", "a'b", 'a"b']
)
async def test_names_that_a_map_or_a_command_cannot_hold_are_refused(
    tmp_path: Path, name: str
) -> None:
    edge = EdgeMap(tmp_path / "cells.map")
    for user_id, cell in ((name, "cell_two"), ("alice", name)):
        with pytest.raises(EdgeRefused):
            await edge.put(user_id, cell)
    assert not (tmp_path / "cells.map").exists()


@pytest.mark.parametrize("is_known", [True, False])
async def test_running_processes_are_told(tmp_path: Path, *, is_known: bool) -> None:
    commands: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands.append((await reader.readline()).decode().strip())
        is_set = commands[-1].startswith("set")
        writer.write(b"entry not found.\n\n" if is_set and not is_known else b"\n")
        writer.close()

    path = tmp_path / "cells.map"
    async with await asyncio.start_unix_server(answer, tmp_path / "admin.sock"):
        await EdgeMap(path, [str(tmp_path / "admin.sock")]).put("alice", "cell_two")
    wanted = [f"set map {path} alice cell_two", f"add map {path} alice cell_two"]
    assert commands == wanted[: 1 if is_known else 2]


async def test_a_process_that_refuses_or_is_away_is_an_error(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"Permission denied\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(EdgeRefused, match="Permission denied"):
            await EdgeMap(tmp_path / "cells.map", [address]).put("alice", "cell_two")
    with pytest.raises(EdgeRefused, match="does not answer"):
        await EdgeMap(tmp_path / "cells.map", [str(tmp_path / "gone")]).put("alice", "cell_two")
