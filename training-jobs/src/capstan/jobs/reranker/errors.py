"""What a user of the job can put right."""


class RerankerError(Exception):
    """The message says what to change; no traceback is shown."""
