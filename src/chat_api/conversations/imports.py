"""Imports: files of conversations, read as they arrive, each conversation in one transaction.

Ids are made of the user, the program and the program's own id, so importing twice changes nothing.
"""

import asyncio
import hashlib
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson

from chat_api.conversations.archives import Archive, NotAnArchive
from chat_api.conversations.documents import Document, Documents, NotJson
from chat_api.conversations.sources import Node, NotReadable, Source, read
from chat_api.conversations.titles import given_title, title_of
from chat_api.db import imports
from chat_api.db.database import Database, StatementRefused
from chat_api.db.imports import MessageRow
from chat_api.errors import BadRequest
from chat_api.text import cut, is_blank

_NAMESPACE = UUID("6f0b6a53-5a8e-5d55-9c2f-0d7a3f8b2c11")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# After so many failures an import ends: it is the wrong file.
MOST_FAILURES = 1_000
_ARCHIVE = b"PK"
# The file of an archive that has the conversations; ChatGPT divides a large one by numbers.
_CONVERSATIONS = re.compile(r"conversations([-_ ]?\d+)?\.json", re.IGNORECASE)
_JSON_FILE = re.compile(r".+\.(json|jsonl|ndjson)", re.IGNORECASE)
_NEITHER = "neither NDJSON nor a JSON array of conversations."
# Imports of one process at once; each may hold a few copies of the largest conversation.
_AT_ONCE = 2
# How much is parsed before other tasks run.
_PIECE_BYTES = 65_536

Own = Callable[[Coroutine[Any, Any, bool], str], "asyncio.Task[bool]"]


@dataclass(slots=True)
class Report:
    """The result of an import. A failure has the number of its line or array element."""

    imported: int = 0
    unchanged: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)


class Imports:
    """The imports of one process, a few at a time: the others wait, and so do their uploads."""

    def __init__(self, db: Database, own: Own, *, retention_days: int = 0) -> None:
        """`own` starts a task that is kept until its end."""
        self._db = db
        self._own = own
        self._kept = timedelta(days=retention_days)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(
        self,
        user_id: str,
        pieces: AsyncIterator[bytes],
        *,
        most_bytes: int,
        is_ndjson: bool = False,
    ) -> Report:
        """Import a file, and return the report. Raise BadRequest for an unreadable file.

        A ZIP archive may have files of `most_bytes` in all. Where it has a `conversations.json`,
        what is no conversation in its other JSON files is no failure.

        With `is_ndjson`, an empty file is valid: the export of a user without conversations.
        Raise DatabaseUnavailable. Conversations imported before an error stay; a repeat skips them.
        """
        report = Report()
        async with self._places:
            first, pieces = await _peeked(pieces)
            if first.startswith(_ARCHIVE):
                return await self._import_archive(user_id, pieces, most_bytes)
            documents = Documents()
            try:
                await self._import_file(user_id, documents, pieces, report)
            except NotJson as error:
                if not (is_ndjson and documents.is_blank and not str(error)):
                    raise BadRequest(str(error) or f"The body is {_NEITHER}") from None
        return report

    async def _import_archive(
        self, user_id: str, pieces: AsyncIterator[bytes], most_bytes: int
    ) -> Report:
        archive = Archive(pieces, most_bytes=most_bytes)
        known, others = Report(), Report()
        has_known = has_others = False
        try:
            while (path := await archive.next()) is not None:
                name = path.replace("\\", "/").rpartition("/")[2]
                if _CONVERSATIONS.fullmatch(name):
                    has_known, report = True, known
                elif _JSON_FILE.fullmatch(name) and not name.startswith("._"):
                    has_others, report = True, others
                else:
                    continue
                failures = len(report.failed)
                try:
                    await self._import_file(user_id, Documents(), archive.read(), report)
                except NotJson as error:
                    if failures < MOST_FAILURES:
                        report.failed.append((1, str(error) or f"The file is {_NEITHER}"))
                shown = cut(name, most_clusters=60, most_chars=120)
                report.failed[failures:] = [
                    (line, f"{shown}: {detail}") for line, detail in report.failed[failures:]
                ]
        except NotAnArchive as error:
            raise BadRequest(str(error)) from None
        if not has_known and not has_others:
            raise BadRequest(
                "The archive has no JSON file. The conversations of an export are in "
                "its `conversations.json`."
            )
        return Report(
            known.imported + others.imported,
            known.unchanged + others.unchanged,
            known.failed if has_known else others.failed,
        )

    async def _import_file(
        self, user_id: str, documents: Documents, pieces: AsyncIterator[bytes], report: Report
    ) -> None:
        """Import a file, also into a report with failures of others. Raise NotJson."""
        async for piece in pieces:
            for start in range(0, len(piece), _PIECE_BYTES):
                found = documents.feed(piece[start : start + _PIECE_BYTES])
                await self._import_all(user_id, found, report)
                await asyncio.sleep(0)
        await self._import_all(user_id, documents.end(), report)

    async def _import_all(
        self, user_id: str, documents: Iterable[Document], report: Report
    ) -> None:
        for document in documents:
            if len(report.failed) >= MOST_FAILURES:
                return
            fault = document.fault
            if document.value is not None:
                fault = await self._import(user_id, document.value, report)
            if fault:
                report.failed.append((document.line, fault))
                if len(report.failed) == MOST_FAILURES - 1:
                    report.failed.append((document.line, "Too many failures: the rest is ignored."))

    async def _import(self, user_id: str, document: dict[str, Any], report: Report) -> str:
        """Import one conversation; return the reason if that is impossible, otherwise None."""
        try:
            source = read(document)
            inserting = self._insert(user_id, source, _id_of(user_id, source, document))
            is_new = await asyncio.shield(self._own(inserting, "import"))
        except NotReadable as error:
            return str(error)
        except StatementRefused:
            return "The database cannot store this conversation."
        if is_new:
            report.imported += 1
        else:
            report.unchanged += 1
        return ""

    async def _insert(self, user_id: str, source: Source, conversation_id: str) -> bool:
        created, updated = _times(source)
        rows = placed(source, conversation_id, created)
        updated = max([updated, *(row.created_at for row in rows)])
        if self._kept and updated < datetime.now(UTC) - self._kept:
            raise NotReadable(f"Its last message is older than {self._kept.days} days.")
        is_ours = source.program == "samosachaat" and source.id is not None
        # Titles of our own exports stay as they are; those of other programs may have many lines.
        title = source.title or "" if is_ours else " ".join((source.title or "").split())
        title = cut(title, most_clusters=500, most_chars=500)
        if given_title(title) is None or is_blank(title):
            first = next((row.content for row in rows if row.role == "user"), "")
            title = title_of(first)
        async with self._db.transaction() as connection:
            return await imports.insert(
                connection,
                user_id,
                conversation_id,
                replace(source.settings, title=title or None),
                (created, updated),
                rows,
                same_as=source.id if is_ours and _UUID.fullmatch(source.id or "") else None,
            )


async def _peeked(pieces: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Return the first bytes of a file, and all of its pieces."""
    first = b""
    while len(first) < len(_ARCHIVE) and (piece := await anext(pieces, None)) is not None:
        first += piece

    async def every_piece() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return first, every_piece()


def _id_of(user_id: str, source: Source, document: dict[str, Any]) -> str:
    name = source.id
    if name is None:
        try:
            written = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # lone surrogates, huge numbers, or many levels
            written = _represented(document)
        name = hashlib.sha256(written).hexdigest()
    return str(uuid5(_NAMESPACE, f"{user_id}\n{source.program}\n{name}"))


def _represented(document: dict[str, Any]) -> bytes:
    """Return a text that stands for the document only. Raise NotReadable for too many levels."""
    try:
        return repr(document).encode("utf-8", "backslashreplace")
    except RecursionError:
        raise NotReadable("This has too many levels.") from None


def _times(source: Source) -> tuple[datetime, datetime]:
    """Return when the conversation began, and when it was last changed."""
    known = [node.created_at for node in source.nodes if node.created_at is not None]
    now = datetime.now(UTC)
    created = source.created_at or min(known, default=source.updated_at or now)
    return created, max([source.updated_at or created, created, *known])


# --- the tree -------------------------------------------------------------------------------------


def placed(source: Source, conversation_id: str, began: datetime) -> list[MessageRow]:
    """Return the messages at their positions, parents first, with one shown path down to a leaf.

    What follows a message that is not kept follows what was before it; messages whose parent is
    missing, or that are their own ancestors, are first ones.
    """
    rows: dict[str, MessageRow] = {}  # by our id
    ours: dict[str, str] = {}  # the kept message at or above each one of the source
    versions: defaultdict[str, int] = defaultdict(int)
    for node, above, carried in _walk(source.nodes):
        parent = conversation_id if above is None else ours.get(above, conversation_id)
        if not node.is_kept:
            ours[node.id] = parent
            continue
        message_id = str(uuid5(UUID(conversation_id), node.id))
        ours[node.id] = message_id
        versions[parent] += 1
        before = rows.get(parent)
        rows[message_id] = _row(
            node,
            message_id,
            parent,
            position=0 if before is None else before.position + 1,
            version=versions[parent],
            created_at=node.created_at or (began if before is None else before.created_at),
            reasoning="\n\n".join(filter(None, (carried, node.reasoning))) or None,
        )
    shown = _shown(rows, conversation_id, _last_shown(source, rows, ours))
    return [replace(row, is_shown=row.id in shown) for row in rows.values()]


def _walk(nodes: Iterable[Node]) -> Iterator[tuple[Node, str | None, str]]:
    """Yield each message after its parent, with the parent's id and reasoning carried to it."""
    by_id: dict[str, Node] = {}
    for node in nodes:
        by_id.setdefault(node.id, node)
    children: defaultdict[str | None, list[Node]] = defaultdict(list)
    for node in by_id.values():
        children[node.parent if node.parent in by_id else None].append(node)
    for siblings in children.values():
        siblings.sort(key=lambda node: node.version)
    seen: set[str] = set()
    # What is left after the first ones is its own ancestor.
    for root in [*children[None], *by_id.values()]:
        waiting: deque[tuple[Node, str | None, str]] = deque([(root, None, "")])
        while waiting:
            node, above, carried = waiting.popleft()
            if node.id in seen:
                continue
            seen.add(node.id)
            yield node, above, carried if node.role == "assistant" else ""
            # Reasoning that stands in a message of its own belongs to the answer that follows.
            passed = "" if node.is_kept else "\n\n".join(filter(None, (carried, node.reasoning)))
            waiting += [(child, node.id, passed) for child in children[node.id]]


def _row(
    node: Node,
    message_id: str,
    parent: str,
    *,
    position: int,
    version: int,
    created_at: datetime,
    reasoning: str | None,
) -> MessageRow:
    has_usage = node.input_tokens is not None and node.output_tokens is not None
    return MessageRow(
        id=message_id,
        parent_id=parent,
        position=position,
        version=version,
        is_shown=False,
        role=node.role,
        content=node.content,
        status=node.status if node.role == "assistant" else "complete",
        model_tag=node.model_tag or "default",
        created_at=created_at,
        reasoning=reasoning,
        finish_reason=node.finish_reason,
        token_count=node.token_count,
        inference_time_ms=node.inference_time_ms,
        input_tokens=node.input_tokens if has_usage else None,
        output_tokens=node.output_tokens if has_usage else None,
        error=node.error,
    )


def _last_shown(source: Source, rows: dict[str, MessageRow], ours: dict[str, str]) -> str | None:
    """Return the message that the shown path leads through."""
    named = ours.get(source.current) if source.current is not None else None
    if named in rows:
        return named
    shown = [ours[node.id] for node in source.nodes if node.is_shown and node.is_kept]
    if shown:
        return max(shown, key=lambda message_id: rows[message_id].position)
    # The newest message; of several at one time, the last one.
    return max(rows, key=lambda key: rows[key].created_at, default=None) if rows else None


def _shown(rows: dict[str, MessageRow], conversation_id: str, through: str | None) -> set[str]:
    """Return the path through a message, down to its newest leaf."""
    shown: set[str] = set()
    last = through
    while last is not None and last != conversation_id:
        shown.add(last)
        last = rows[last].parent_id
    newest = {row.parent_id: row.id for row in rows.values()}  # the last child of each
    while through in newest:
        through = newest[through]
        shown.add(through)
    return shown
