"""What a user of the job can put right."""

from capstan.jobs.command import JobError


class AssistantError(JobError):
    """The message says what to change; no traceback is shown."""
