from pathlib import Path

import pytest

from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.recipe import load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "corpus.yaml"
SOURCE = "package: x\n    root: r\n    format: html\n    license: MIT\n    license_file: c"


def read(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.yaml").write_text(content)
    load_recipe(tmp_path / "recipe.yaml")


def test_the_recipe_of_the_demonstration() -> None:
    recipe = load_recipe(RECIPE)
    assert len(recipe.debian) == 9
    labels = {source.package: source.labels for source in recipe.debian if source.labels}
    assert labels == {
        "linux-doc-[0-9]*": ["*/faq.html"],
        "perl-doc": ["man1/perlfaq*.1.gz", "man1/perlunifaq.1.gz", "man3/*FAQ.3perl.gz"],
        "sqlite3-doc": ["faq.html"],
        "python3.[0-9]*-doc": ["faq/*"],
        "git-doc": ["gitfaq.html"],
    }
    assert [wheel.version for wheel in recipe.wheels] == ["1.46.3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"name: x\ndebian:\n  - {SOURCE}\ncolour: red", "colour: Extra inputs are not permitted"),
        (f"name: x\ndebian:\n  - {SOURCE}\n    pages: {{tittle: head}}", "debian.0.pages.tittle: Extra inputs"),
        (f"name: x\ndebian:\n  - {SOURCE.replace('html', 'docx')}", "debian.0.format: Input should be 'html'"),
        (f"name: x\nwheels:\n  - {SOURCE}", "wheels.0.version: Field required"),
        ("name: x", "names no packages"),
        ("- a\n- b", "is not a mapping"),
        ("name: [", "is not YAML"),
    ],
    ids=["unknown key", "unknown nested key", "wrong value", "missing key", "no sources", "list", "not yaml"],
)
def test_mistakes_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "recipe.yaml")


def test_layout_and_comments_do_not_change_the_hash(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"name: x\ndebian:\n  - {SOURCE}\n")
    (tmp_path / "b.yaml").write_text(f"# comment\ndebian:\n  - {SOURCE}\n\nname: 'x'\n")
    (tmp_path / "c.yaml").write_text(f"name: y\ndebian:\n  - {SOURCE}\n")
    a, b, c = (load_recipe(tmp_path / f"{name}.yaml").hash for name in "abc")
    assert a == b != c
