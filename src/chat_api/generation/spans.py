"""The span of a generation, after OpenTelemetry's semantic conventions for generative AI."""

from chat_api.db.generations import Ending, Lease
from chat_api.generation.options import Options
from chat_api.tracing import Span, Tracing


def begin(tracing: Tracing, lease: Lease, options: Options, provider: str) -> Span:
    """Return the span of an attempt. `provider` is the dialect of its engine."""
    return tracing.generation(
        f"chat {lease.model_tag}",
        lease.message_id,
        lease.attempt,
        lease.trace_id,
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": lease.model_tag,
            "gen_ai.request.temperature": options.temperature,
            "gen_ai.request.max_tokens": options.max_tokens,
            "gen_ai.request.top_k": options.top_k,
            "gen_ai.request.top_p": options.top_p,
            "gen_ai.conversation.id": lease.conversation_id,
            "gen_ai.response.id": lease.message_id,
            "samosachaat.attempt": lease.attempt,
            "samosachaat.trace_id": lease.trace_id,
        },
    )


def ended(span: Span, ending: Ending, provider: str) -> None:
    """Record the saved end of the generation, and the model that wrote it."""
    span.note(
        {
            "gen_ai.provider.name": provider,
            "gen_ai.response.model": ending.model_tag,
            "gen_ai.response.finish_reasons": ending.finish_reason and [ending.finish_reason],
            "gen_ai.usage.input_tokens": ending.input_tokens,
            "gen_ai.usage.output_tokens": ending.output_tokens,
            "samosachaat.status": ending.status,
        },
        error=ending.error,
    )
