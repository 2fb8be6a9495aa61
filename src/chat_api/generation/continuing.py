"""Going on with a text that an earlier attempt has begun, instead of writing it again."""

import time

from chat_api.context import Context
from chat_api.db import event_log as db_event_log
from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.db.generations import Lease
from chat_api.engines.engines import Engines, Order
from chat_api.generation.events import Collector, Written
from chat_api.generation.options import Options
from chat_api.generation.retrying import until_available
from chat_api.generation.running import Beginning
from chat_api.telemetry import CONTINUED, log, trace_id_var

# How long finding out whether an engine goes on from a text may hold up the generation.
_PATIENCE_SECONDS = 5.0


def can_be_continued(written: Written) -> bool:
    """Whether a model may be asked to go on from the text.

    An empty text makes some engines show the marks of their template. A U+FFFD at the end may be
    half a character. Reasoning is not sent back to the model, which would think again.
    """
    return bool(written.text.strip()) and not written.reasoning and written.text[-1] != "\ufffd"


class Continuing:
    """Finds out what can be continued, and prepares the log for it."""

    def __init__(self, upkeep: Database, engines: Engines) -> None:
        self._upkeep = upkeep
        self._engines = engines

    async def is_possible(
        self, written: Written, model_tag: str, context: Context, options: Options
    ) -> bool:
        """Return whether the model would go on from the text."""
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
        """What the attempt before has logged, now the beginning of this one.

        None where it cannot be continued, or this attempt holds the generation no more.
        """
        earlier = Collector()
        rows = await until_available(lambda: db_event_log.read(self._upkeep, lease.message_id))
        for row in rows:
            if row.attempt == lease.attempt - 1:
                earlier.add(row)
        if not await self.is_possible(earlier.written, lease.model_tag, context, options):
            return None
        beginning = Beginning(earlier.written, earlier.last_event)
        is_held = await until_available(
            lambda: db_leases.continue_from(self._upkeep, lease, beginning.last_event)
        )
        if not is_held:
            return None
        CONTINUED.inc()
        log.info("generation_continued", message_id=lease.message_id, attempt=lease.attempt)
        return beginning
