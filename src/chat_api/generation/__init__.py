"""Answers that run: each an object of its own, whose HTTP responses are only its readers."""
