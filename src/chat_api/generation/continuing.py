"""Continuing the text of an earlier attempt, instead of writing it again."""

import time

from chat_api.context import Context
from chat_api.db import event_log as db_event_log
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.engines.engines import Engines, Order
from chat_api.generation.events import Collector, Written, collected
from chat_api.generation.options import Options
from chat_api.generation.running import Beginning
from chat_api.retrying import until_available
from chat_api.telemetry import CONTINUED, log, trace_id_var

# The longest delay of a generation by the question whether its engine can continue a text.
_PATIENCE_SECONDS = 5.0


def can_be_continued(written: Written) -> bool:
    """Return whether a model may be asked to continue the text.

    An empty text makes some engines show the marks of their template. A U+FFFD at the end may be
    half a character. Reasoning is not sent back to the model, which would think again.
    """
    return bool(written.text.strip()) and not written.reasoning and written.text[-1] != "\ufffd"


async def _newest_logged(db: Database, lease: Lease) -> tuple[int, Collector]:
    """Return the newest attempt before the lease's that has logged anything, and its events."""
    rows = await db_event_log.read(db, lease.message_id)
    earlier = [row for row in rows if row.attempt < lease.attempt]
    attempt = max((row.attempt for row in earlier), default=lease.attempt - 1)
    return attempt, collected(row for row in earlier if row.attempt == attempt)


async def kept(db: Database, lease: Lease) -> Beginning | None:
    """Continue the lease's events after those logged before, without asking an engine.

    Clients whose dialect has no `reset` need that. Return None where nothing was logged, or where
    the attempt does not hold the generation any more.
    """
    attempt, earlier = await _newest_logged(db, lease)
    if earlier.last_event < 0:
        return None
    if not await db_leases.continue_from(db, lease, earlier.last_event, attempt):
        return None
    return Beginning(earlier.written, earlier.last_event)


class Continuing:
    """Checks whether a text can be continued, and prepares the log for it."""

    def __init__(self, upkeep: Database, engines: Engines) -> None:
        self._upkeep = upkeep
        self._engines = engines

    async def is_possible(
        self, written: Written, model_tag: str, context: Context, options: Options
    ) -> bool:
        """Return whether the model can continue the text."""
        if not can_be_continued(written):
            return False
        order = Order(
            model_tag=model_tag,
            prompt=context,
            options=options.for_engine(),
            trace_id=trace_id_var.get(),
            until=time.monotonic() + _PATIENCE_SECONDS,
            beginning=written.text,
        )
        return await self._engines.can_continue(order)

    async def take_over(self, lease: Lease, context: Context, options: Options) -> Beginning | None:
        """Return the logged text of the previous attempt, now the beginning of this one.

        None where it cannot be continued, or this attempt holds the generation no more.
        """
        attempt, earlier = await until_available(lambda: _newest_logged(self._upkeep, lease))
        if not await self.is_possible(earlier.written, lease.model_tag, context, options):
            return None
        beginning = Beginning(earlier.written, earlier.last_event)
        is_held = await until_available(
            lambda: db_leases.continue_from(self._upkeep, lease, beginning.last_event, attempt)
        )
        if not is_held:
            return None
        CONTINUED.inc()
        log.info("generation_continued", message_id=lease.message_id, attempt=lease.attempt)
        return beginning
