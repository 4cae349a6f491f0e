import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.corpus.apt import Apt
from capstan.jobs.corpus.build import build_packages
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.manifest import DOCUMENTS, MANIFEST
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.corpus.recipe import Recipe

MakeDeb = Callable[[Path, str, str, dict[str, str]], Path]
BODY = "<title>{0}</title><h1>{0}</h1><p>Everything there is to know about {0}, in one sentence.</p>"
GIT = {
    "root": "usr/share/doc/tool-*/html",
    "format": "html",
    "license": "MIT",
    "license_file": "usr/share/doc/*/copyright",
}


def page(name: str) -> str:
    return BODY.format(name)


def wheel(directory: Path) -> dict[str, str]:
    """A real wheel with two pages, and its entry for a recipe."""
    archive = directory / "clitool-1.0-py3-none-any.whl"
    info = "clitool-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("clitool/examples/cp.rst", "**To copy**\n\nRun the command that copies one file to another.\n")
        file.writestr("clitool/examples/s3/mv.rst", "**To move**\n\nRun the command that moves one file elsewhere.\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: clitool\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return {
        "package": "clitool",
        "version": "1.0",
        "sha256": sha256_of(archive),
        "root": "clitool/examples",
        "format": "rst",
        "license": "Apache-2.0",
        "license_file": "clitool-*.dist-info/METADATA",
    }


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes wheels from, instead of the network."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.fixture
def repository(tmp_path: Path, make_deb: MakeDeb, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian repository on disk with two releases of a tool's documentation, the only source of apt."""
    if not Apt.available():
        pytest.skip("no apt on this machine")
    directory = tmp_path / "repository"
    directory.mkdir()
    for version in ("9", "15"):
        root = f"usr/share/doc/tool-{version}"
        files = {
            f"{root}/html/{name}.html": page(f"{name} {version}") for name in ("add", "log", "faq/one", "genindex")
        }
        make_deb(directory, f"tool-doc-{version}", f"{version}.2", {**files, f"{root}/copyright": "MIT"})
    index_packages(directory)
    config = tmp_path / "apt.conf"
    sources = tmp_path / "sources.list"
    sources.write_text(f"deb [trusted=yes] copy:{directory} ./\n")
    config.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    return directory


def index_packages(directory: Path) -> None:
    entries = []
    for archive in sorted(directory.glob("*.deb")):
        name, version, _ = archive.stem.split("_")
        entries.append(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\n"
            f"Filename: ./{archive.name}\nSize: {archive.stat().st_size}\nSHA256: {sha256_of(archive)}\n"
            "Description: test\n"
        )
    (directory / "Packages").write_text("\n".join(entries))


def recipe(debian: list[dict[str, Any]], wheels: list[dict[str, Any]]) -> Recipe:
    return Recipe.model_validate({"name": "test", "debian": debian, "wheels": wheels})


def build(recipe: Recipe, tmp_path: Path, steps: Steps, **options: Any) -> dict[str, Any]:
    return build_packages(recipe, tmp_path / "out", tmp_path / "cache", steps, processes=1, **options).manifest


def documents(tmp_path: Path) -> dict[str, dict[str, Any]]:
    lines = (tmp_path / "out" / DOCUMENTS).read_text(encoding="utf-8").splitlines()
    return {document["id"]: document for document in map(json.loads, lines)}


def test_debian_package_of_the_highest_version(tmp_path: Path, repository: Path, steps: Steps) -> None:
    source = {**GIT, "package": "tool-doc-[0-9]*", "exclude": ["genindex.html"], "labels": ["faq/*"]}
    manifest = build(recipe([source], []), tmp_path, steps)
    assert set(documents(tmp_path)) == {"tool-doc-15/add", "tool-doc-15/log"}
    add = documents(tmp_path)["tool-doc-15/add"]
    assert add["url"] == "tool-doc-15:/usr/share/doc/tool-15/html/add.html"
    assert (add["title"], add["license"], add["source"]) == ("add 15", "MIT", "tool-doc-15")
    (entry,) = manifest["sources"]
    archive = repository / "tool-doc-15_15.2_all.deb"
    assert (entry["version"], entry["archive"], entry["sha256"]) == ("15.2", archive.name, sha256_of(archive))
    assert entry["license_file"] == "usr/share/doc/tool-15/copyright"
    assert entry["dropped"] == {"label": 1, "excluded": 1}


def test_pages_for_evaluation_stay_out(tmp_path: Path, repository: Path, steps: Steps) -> None:
    build(recipe([{**GIT, "package": "tool-doc-15", "labels": ["faq/*"]}], []), tmp_path, steps)
    assert "one 15" not in (tmp_path / "out" / DOCUMENTS).read_text()


def test_nothing_is_downloaded_twice(tmp_path: Path, repository: Path, registry: Path, steps: Steps) -> None:
    both = recipe([{**GIT, "package": "tool-doc-15"}], [wheel(registry)])
    first = build(both, tmp_path, steps)
    (tmp_path / "out" / MANIFEST).unlink()
    for archive in [*repository.glob("*.deb"), *registry.glob("*.whl")]:
        archive.unlink()
    assert build(both, tmp_path, steps) == first


def test_an_unchanged_recipe_is_up_to_date_until_asked_to_refresh(
    tmp_path: Path, repository: Path, steps: Steps, make_deb: MakeDeb
) -> None:
    newest = recipe([{**GIT, "package": "tool-doc-[0-9]*"}], [])
    build(newest, tmp_path, steps)
    make_deb(repository, "tool-doc-16", "16.1", {"usr/share/doc/tool-16/html/add.html": page("add 16")})
    index_packages(repository)
    assert [s["name"] for s in build(newest, tmp_path, steps)["sources"]] == ["tool-doc-15"]
    assert [s["name"] for s in build(newest, tmp_path, steps, refresh=True)["sources"]] == ["tool-doc-16"]
    assert set(documents(tmp_path)) == {"tool-doc-16/add"}


def test_a_package_that_this_system_lacks_is_left_out(
    tmp_path: Path, repository: Path, steps: Steps, log: io.StringIO
) -> None:
    sources = [{**GIT, "package": "tool-doc-15"}, {**GIT, "package": "nothing-doc-[0-9]*"}]
    assert build(recipe(sources, []), tmp_path, steps)["missing"] == ["nothing-doc-[0-9]*"]
    assert "not among this system's packages, left out: nothing-doc-[0-9]*" in log.getvalue()


def test_a_damaged_download_is_not_used(tmp_path: Path, repository: Path, steps: Steps) -> None:
    archive = repository / "tool-doc-15_15.2_all.deb"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    with pytest.raises(CorpusError, match="tool-doc-15 could not be downloaded"):
        build(recipe([{**GIT, "package": "tool-doc-15"}], []), tmp_path, steps)
    assert not list((tmp_path / "cache").rglob("*.deb"))
    assert not (tmp_path / "out").exists()


def test_without_apt_the_wheels_alone(
    tmp_path: Path, registry: Path, steps: Steps, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = recipe([{**GIT, "package": "tool-doc-15"}], [wheel(registry)])
    monkeypatch.setattr(Apt, "available", staticmethod(lambda: False))  # the one thing this machine cannot lack
    manifest = build(both, tmp_path, steps)
    assert set(documents(tmp_path)) == {"clitool/cp", "clitool/s3/mv"}
    assert log.getvalue().count("apt is not on this machine") == 1
    (entry,) = manifest["sources"]
    assert entry["sha256"] == both.wheels[0].sha256
    assert entry["license_file"] == "clitool-1.0.dist-info/METADATA"


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, registry: Path, steps: Steps) -> None:
    entry = {**wheel(registry), "sha256": hashlib.sha256(b"other").hexdigest()}
    with pytest.raises(CorpusError, match=r"clitool 1\.0 could not be downloaded"):
        build(recipe([], [entry]), tmp_path, steps)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_root_that_the_package_lacks(tmp_path: Path, registry: Path, steps: Steps) -> None:
    with pytest.raises(CorpusError, match="has no directory clitool/pages; correct its root"):
        build(recipe([], [{**wheel(registry), "root": "clitool/pages"}]), tmp_path, steps)


def test_links_in_a_package_are_aliases(tmp_path: Path, registry: Path) -> None:
    from capstan.jobs.corpus.items import list_package
    from capstan.jobs.corpus.package import Package

    root = tmp_path / "root"
    (root / "pages").mkdir(parents=True)
    (root / "pages" / "a.en.html").write_text(page("a"))
    (root / "pages" / "a.html").symlink_to("a.en.html")
    (root / "again").symlink_to("pages")
    source = recipe([], [{**wheel(registry), "root": "*", "format": "html"}]).wheels[0]
    listing = list_package(Package("p", "1", "", "", root), source)
    assert [item.id for item in listing.items] == ["p/a.en"]
    assert listing.dropped == {"alias": 1}
