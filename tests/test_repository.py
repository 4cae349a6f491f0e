"""What must stay true of the repository as a whole."""

import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import openapi
import pytest

from capstan.common.settings import CommonSettings, environment_names

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "services/gateway": "capstan.gateway.settings:GatewaySettings",
    "services/retriever": "capstan.retriever.settings:RetrieverSettings",
    "services/reranker": "capstan.reranker.settings:RerankerSettings",
    "services/generator": "capstan.generator.settings:GeneratorSettings",
    "services/vllm-worker": "capstan.worker.settings:WorkerSettings",
    "native": "capstan.native.settings:NativeSettings",
}
ALONE = ("ragas", "peers-rag")
"""Environments that share no package with another."""


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_the_committed_contract_is_what_the_service_answers(service: str) -> None:
    assert openapi.committed(service).read_text() == openapi.current(service), "run 'make openapi' and commit"


@pytest.mark.parametrize("room", SETTINGS)
def test_every_setting_is_documented(room: str) -> None:
    module, name = SETTINGS[room].split(":")
    settings: type[CommonSettings] = getattr(import_module(module), name)
    readme = (ROOT / room / "README.md").read_text() + (ROOT / "services/common/README.md").read_text()
    assert [n for n in environment_names(settings).values() if f"`{n}`" not in readme] == []


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


def test_local_links_in_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*/README.md"), *ROOT.glob("*/README.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text())
        if not target.startswith("http") and not (document.parent / target).exists()
    ]
    assert broken == []
