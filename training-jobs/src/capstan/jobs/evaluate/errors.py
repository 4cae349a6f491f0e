"""Errors of the evaluation job."""


class EvaluateError(Exception):
    """Something the user can put right: the message is one line that names what to change."""
