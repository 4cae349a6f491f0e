"""What an operator sees when the model cannot be had."""

import os
import subprocess
import sys


def test_without_a_hub_the_error_names_the_artifact_that_needs_none() -> None:
    environment = {
        **os.environ,
        "CAPSTAN_IDENTITY_SECRET": "x" * 32,
        "CAPSTAN_RERANKER_MODEL": "hf:BAAI/bge-reranker-base",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "/nonexistent",
        "CAPSTAN_CACHE_DIR": "/nonexistent",
    }
    done = subprocess.run(
        [sys.executable, "-m", "capstan.reranker"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "hf:BAAI/bge-reranker-base" in done.stderr
    assert "file:training-jobs/artifacts/reranker" in done.stderr
    assert "Traceback" not in done.stderr
