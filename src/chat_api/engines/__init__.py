"""Clients of engines: the configured engines, their dialects, and the choice between them."""
