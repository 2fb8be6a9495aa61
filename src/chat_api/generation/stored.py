"""The frames of an ended generation whose events are gone, made from its saved end."""

from functools import partial

from chat_api.db import generations as db_generations
from chat_api.db.database import Database
from chat_api.errors import inference_failure
from chat_api.generation import events


async def stored_frames(
    db: Database, message_id: str, number: int, *, one_attempt: bool
) -> bytes | None:
    """Return the frames that end a subscription which has had the events up to `number`.

    Return None if nothing correct can be sent. The ids of events that were sent stand for the same
    bytes again. A snapshot has the id of the last event that it contains; a token with the whole
    text, which was never an event, has an id that no event had.
    """
    generation = await db_generations.read_generation(db, message_id)
    if generation is None or generation.last_event is None or generation.done is None:
        return None
    content, reasoning = await db_generations.read_content(db, message_id) or (None, "")
    if content is None and not generation.undone:
        return None  # just replaced, and its log swept: there is no text to end with
    final = ((generation.before_done or "") + generation.done).encode().split(b"\n")
    if generation.error is not None and not generation.before_done:  # as before migration 0003
        detail = inference_failure(generation.error).detail
        final.insert(0, events.error(generation.error, detail))
    frame = partial(events.frame, message_id, generation.attempt)
    numbered = list(enumerate(final, generation.last_event + 1 - len(final)))
    frames = [frame(at, data) for at, data in numbered if data]
    if one_attempt:
        if number > 0:
            return None
        if content:
            frames.insert(0, frame(generation.last_event + 1, events.token(content)))
        if reasoning:
            frames.insert(0, frame(generation.last_event + 2, events.reasoning(reasoning)))
        if number < 0:
            start = events.start(
                generation.conversation_id,
                generation.message_id,
                generation.question_id,
                generation.attempt,
            )
            frames.insert(0, frame(0, start))
    elif content is not None:
        # Among the final events, an empty line is where the snapshot was.
        place = final.index(b"") if b"" in final else 0
        at = numbered[place][0] if b"" in final else numbered[0][0] - 1
        frames.insert(place, frame(at, events.snapshot(content, reasoning)))
    return b"".join(frames)
