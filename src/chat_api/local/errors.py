"""The one error of the local stack."""


class LocalError(Exception):
    """Something a person has to put right; the text is a sentence or two that say what and how."""
