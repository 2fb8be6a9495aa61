"""The keys that the services share (`INTERNAL_API_KEY`), and whether one could be guessed."""

import re

_LEAST_CHARS = 16
_LEAST_DIFFERENT_CHARS = 8
# Placeholders for a key in documents and templates.
_PLACEHOLDER = re.compile(
    r"change-?(me|this|it)|replace-?(me|this|with)|placeholder|example|password|letmein|"
    r"your-?(own|key|api|secret|internal)|<.*>|\$\{.*\}",
    re.IGNORECASE,
)
_RUNS = (
    "0123456789",
    "0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
)


def keys_of(text: str) -> tuple[str, ...]:
    """Return the keys of `INTERNAL_API_KEY`; there are several while one replaces another."""
    return tuple(part.strip() for part in text.split(","))


def is_weak(key: str) -> bool:
    """Return whether a key could be guessed: too short, too uniform, or from a template."""
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    return (
        len(key) < _LEAST_CHARS
        or len(set(key)) < _LEAST_DIFFERENT_CHARS
        or _PLACEHOLDER.search(key) is not None
        or (plain != "" and any(plain in run * len(plain) for run in _RUNS))
    )
