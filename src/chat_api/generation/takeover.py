"""Taking over generations whose process died or handed them over."""

from chat_api.db import leases as db_leases
from chat_api.db.database import Database
from chat_api.db.generations import Lease, Turn
from chat_api.generation.continuing import Continuing, kept
from chat_api.generation.events import Written
from chat_api.generation.options import Options
from chat_api.generation.prompts import Prompts
from chat_api.generation.registry import Registry
from chat_api.generation.running import Beginning
from chat_api.generation.writer import GenerationWriter
from chat_api.retrying import until_available

# A generation that has ended or stalled its process so often is ended.
MOST_CRASHES = 3


class Takeover:
    """Continues claimed generations, runs them again, or ends them.

    Continuing needs an engine that can; an ended one keeps the text that the log holds.
    """

    def __init__(
        self,
        db: Database,
        upkeep: Database,
        registry: Registry,
        prompts: Prompts,
        writer: GenerationWriter,
        continuing: Continuing,
        *,
        interrupts: bool,
    ) -> None:
        """With `interrupts`, a generation whose process crashed is ended, not run again."""
        self._db = db
        self._upkeep = upkeep
        self._registry = registry
        self._prompts = prompts
        self._writer = writer
        self._continuing = continuing
        self._interrupts = interrupts

    def begin(self, lease: Lease) -> None:
        """Take over a claimed generation, in a task of its own."""
        self._registry.own(self._take_up(lease), f"take-up-{lease.message_id}")

    async def _take_up(self, lease: Lease) -> None:
        with self._registry.claim(lease):
            if self._registry.is_draining or not await self._go_on(lease):
                # The drain began meanwhile: another process may claim it at once.
                await db_leases.release(
                    self._upkeep, [(lease.message_id, lease.attempt)], self._registry.process
                )

    async def _go_on(self, lease: Lease) -> bool:
        """End it, or start it; return False if the drain began in the meantime."""
        if lease.stop_requested:
            await self._writer.close_from_log(lease, "stopped")
        elif lease.crashes >= MOST_CRASHES or (lease.crashes and self._interrupts):
            await self._writer.close_from_log(lease, "interrupted")
        else:
            history = await until_available(lambda: self._read_history(lease))
            options = Options.from_json(lease.options)
            context = self._prompts.build(history, options, lease.instructions)
            beginning = await self._continuing.take_over(lease, context, options)
            if beginning is None and options.on_crash == "interrupt":
                shown = await until_available(lambda: kept(self._upkeep, lease))
                if shown is not None and shown.written.text:
                    await self._writer.close_from_log(lease, "interrupted")
                    return True
                beginning = shown and _from_the_start(shown)
            if self._registry.is_draining:
                return False
            self._writer.start(lease, context, options, beginning)
        return True

    async def _read_history(self, lease: Lease) -> list[Turn]:
        async with self._db.connection() as connection:
            return await self._prompts.read_history(
                connection, lease.conversation_id, lease.question_id
            )


def _from_the_start(shown: Beginning) -> Beginning:
    """Return the beginning after events without text."""
    return Beginning(Written("", 0), shown.last_event, begins_again=bool(shown.written.reasoning))
