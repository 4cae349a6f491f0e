"""Errors of the evaluation job."""

from capstan.jobs.command import JobError


class EvaluateError(JobError):
    """Something the user can put right: the message is one line that names what to change."""
