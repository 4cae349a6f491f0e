"""Errors of the corpus job."""


class CorpusError(Exception):
    """Something the user can put right: the message is one line that names what to change."""


class BrokenDocument(Exception):
    """One file that cannot be read as what its name says; the build skips, counts and names it."""
