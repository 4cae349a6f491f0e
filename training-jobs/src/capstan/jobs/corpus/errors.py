"""Errors of the corpus job."""


class CorpusError(Exception):
    """Something the user can put right: the message is one line that names what to change."""
