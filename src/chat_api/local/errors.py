"""The one error of the local stack."""


class LocalError(Exception):
    """An error that the user must correct; the text says what is wrong and how to correct it."""
