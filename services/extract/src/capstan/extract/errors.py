"""The one error of extraction."""


class BrokenDocument(Exception):
    """One file that cannot be read as what its name says; the message says why, for the person whose file it is."""
