"""Replicas to kill, as the chaos tests have them."""

from tests.chaos.conftest import start_pair

__all__ = ["start_pair"]
