"""The engine's client: one request in, an iterator of events out."""
