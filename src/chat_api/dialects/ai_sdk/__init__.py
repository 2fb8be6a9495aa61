"""The AI SDK's UI message stream, for `useChat` with its default transport (versions 5 to 7)."""
