"""Errors of the corpus job."""

from capstan.jobs.command import JobError


class CorpusError(JobError):
    """Something the user can put right: the message is one line that names what to change."""
