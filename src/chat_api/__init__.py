"""The chat API of samosaChaat."""

__version__ = "0.1.0"
