"""What must stay true of the repository as a whole."""

import re
from collections import defaultdict
from pathlib import Path

import openapi
import pytest

ROOT = Path(__file__).resolve().parent.parent
ALONE = ("ragas", "peers-rag")
"""Environments that share no package with another."""


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_the_committed_contract_is_what_the_service_answers(service: str) -> None:
    assert openapi.committed(service).read_text() == openapi.current(service), "run 'make openapi' and commit"


def _pins(path: Path) -> dict[str, str]:
    lines = [
        line.split("#")[0].split(" --hash")[0].strip().rstrip("\\").strip() for line in path.read_text().splitlines()
    ]
    return dict(line.split("==") for line in lines if line and not line.startswith("--hash"))


def test_environments_that_share_packages_agree_on_their_versions() -> None:
    files = [
        *ROOT.glob("services/[!v]*/requirements*.txt"),
        *(path for path in ROOT.glob("training-jobs/requirements/*.txt") if path.stem not in ALONE),
        ROOT / "native/requirements-dev.txt",
    ]
    assert len(files) > 6
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for path in files:
        for name, version in _pins(path).items():
            versions[re.sub(r"[-_.]+", "-", name).lower()].add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
