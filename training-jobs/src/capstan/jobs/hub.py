"""Uploads of artifacts to a Hugging Face hub."""

import os
from pathlib import Path

from capstan.jobs.command import JobError


def push(artifact: Path, repository: str, message: str) -> str:
    """Upload the artifact as a private repository; its address. HF_TOKEN and HF_ENDPOINT say who and where.

    Raises `JobError`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"))
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        done = hub.upload_folder(repo_id=repository, folder_path=artifact, commit_message=message)
    except (HfHubHTTPError, OSError) as error:
        raise JobError(f"could not upload to {repository}: {error}; HF_TOKEN must allow to write it") from error
    return str(done.commit_url)
