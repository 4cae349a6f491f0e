"""Whatever a user or an operator can set, ask, read or run is in a document, and documents name nothing else.

The services' own tests hold tables of metrics (and what else only they have) to their code; what concerns all of them
is here.
"""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import environment_variables
import openapi
import pytest
import yaml
from documents import DOCUMENTS, ROOT, anchors, blocks, links

COMMON = (ROOT / "services/common/README.md").read_text()
TEXT = {document: document.read_text() for document in DOCUMENTS}
OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LD_PRELOAD", "PYTHONPATH", "XDG_CACHE_HOME")
"""Variables that torchrun, the linker, Python and the desktop define."""
_INTERPRETER = re.compile(r"CAPSTAN_NATIVE_\w+_PYTHON")
_ROUTE = re.compile(r"\b(GET|POST|PUT|DELETE|PATCH)\s+(/(?:v1|admin)[^\s`?\"'|;,)]*)")
_METRIC = re.compile(r"\bcapstan_(?:gateway|generator|retriever|reranker|http|train|sim)_[a-z_]+[a-z]")
_TARGET = re.compile(r"^([a-z-]+):.*##", re.MULTILINE)


# Settings


@pytest.mark.parametrize(("room", "settings_class"), environment_variables.settings_classes())
def test_every_setting_is_in_the_readme_of_its_room(room: str, settings_class: str) -> None:
    readme = (ROOT / room / "README.md").read_text() + COMMON
    names = environment_variables.names_of(settings_class)
    assert {name for name in names if f"`{name}`" not in readme} == set()


def test_every_other_variable_that_is_read_is_in_a_document() -> None:
    text = "".join(TEXT.values())
    names = environment_variables.read_directly() - set(OTHERS)
    assert len(names) > 30
    undocumented = {name for name in names if not re.search(rf"(?<!\w){name}(?!\w)", text)}
    assert {name for name in undocumented if not _INTERPRETER.fullmatch(name)} == set()


def test_documents_name_no_setting_that_does_not_exist() -> None:
    known = environment_variables.settings() | environment_variables.read_directly()
    unknown = {
        f"{document.relative_to(ROOT)}: {name}"
        for document, text in TEXT.items()
        for name in re.findall(r"\bCAPSTAN_[A-Z0-9_]+[A-Z0-9](?![*<_])", text)
        if name not in known and not _INTERPRETER.fullmatch(name)
    }
    assert unknown == set()


# Metrics


def test_documents_name_no_metric_that_no_readme_explains() -> None:
    """Which the rooms' own tests hold to what is there."""
    explained = {
        name for document, text in TEXT.items() if document.name == "README.md" for name in _METRIC.findall(text)
    }
    unknown = {
        f"{document.relative_to(ROOT)}: {name}"
        for document, text in TEXT.items()
        for name in _METRIC.findall(text)
        if re.sub(r"_(?:bucket|count|sum)$", "", name) not in explained
    }
    assert unknown == set()


# Routes


def _routes(service: str) -> set[str]:
    paths = json.loads(openapi.committed(service).read_text())["paths"]
    return {_unnamed(f"{method.upper()} {path}") for path, methods in paths.items() for method in methods}


def _unnamed(route: str) -> str:
    return re.sub(r"\{\w+\}", "{}", route)


@pytest.mark.parametrize("service", sorted({*openapi.SERVICES} - {"gateway"}))
def test_every_route_is_in_the_readme_of_its_service(service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text() + COMMON
    found = {_unnamed(f"{method} {path}") for method, path in re.findall(r"\b([A-Z]+)\s+(/[^\s`?|,]*)", text)}
    assert _routes(service) - found == set()


def test_documents_name_no_route_that_does_not_exist() -> None:
    known = {route for service in openapi.SERVICES for route in _routes(service)}
    unknown = {
        f"{document.relative_to(ROOT)}: {method} {path}"
        for document, text in TEXT.items()
        for method, path in _ROUTE.findall(text)
        if _unnamed(f"{method} {path}") not in known
    }
    assert unknown == set()


# make


def test_every_target_of_make_is_in_a_document_and_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: ((?:.|\\\n)*?)$(?<!\\)", makefile, re.MULTILINE)
    assert phony
    targets = _TARGET.findall(makefile)
    assert sorted(targets) == sorted(phony[1].replace("\\", "").split())
    text = "".join(TEXT.values())
    assert [target for target in targets if not re.search(rf"make (?:[a-z-]+ )*{target}(?![\w-])", text)] == []


# The map


def test_every_directory_is_on_the_map() -> None:
    house = (ROOT / "docs/architecture.md").read_text()
    shown = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    parts = [Path(line).parts for line in shown.splitlines() if "/" in line and not line.startswith(".")]
    rooms = {"/".join(path[:2]) if path[0] == "services" else path[0] for path in parts}
    assert {room for room in rooms if f"`{room}`" not in house} == set()


def test_every_decision_is_in_their_list() -> None:
    folder = ROOT / "docs/decisions"
    listed = (folder / "README.md").read_text()
    assert [path.name for path in folder.glob("0*.md") if f"({path.name})" not in listed] == []


# Links


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert [link for link in links(document) if not _leads_somewhere(document, link)] == []


def _leads_somewhere(document: Path, link: str) -> bool:
    """Whether a local target exists, with its heading; of an address elsewhere, whether it is one."""
    parts = urlsplit(link)
    if parts.scheme:
        return parts.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc) is not None
    target = document.parent / parts.path if parts.path else document
    if not target.exists():
        return False
    return not parts.fragment or (target.suffix == ".md" and parts.fragment in anchors(target))


@pytest.mark.parametrize(
    ("link", "good"),
    [
        ("other.md", True),
        ("other.md#two-words-v1-and-code", True),
        ("#here", True),
        ("none.md", False),
        ("other.md#none", False),
        ("https://example.org/a?b=c#d", True),
        ("https:/example.org", False),
        ("htps://example.org", False),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str, good: bool) -> None:
    (tmp_path / "page.md").write_text(f"# Here\n\n[there]({link}), and `[code](nowhere)`\n")
    (tmp_path / "other.md").write_text("## Two *words*: `/v1` and [code](x)\n")
    (found,) = links(tmp_path / "page.md")
    assert _leads_somewhere(tmp_path / "page.md", found) is good


# Code in other languages


def test_yaml_json_and_python_of_documents_are_that() -> None:
    readers = {"yaml": lambda text: list(yaml.safe_load_all(text)), "json": json.loads, "python": _compile}
    for document in DOCUMENTS:
        for code in blocks(document):
            if code.language in readers:
                readers[code.language](code.text)


def _compile(text: str) -> None:
    compile(text, "document", "exec")
