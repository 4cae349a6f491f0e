"""The artifact that is shipped is the one that its manifest describes."""

import json
from pathlib import Path

from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.reranker.export import MAX_BYTES
from capstan.jobs.reranker.recipe import load_recipe

HOME = Path(__file__).parents[2]
ARTIFACT = HOME / "artifacts" / "reranker"
MANIFEST = json.loads((ARTIFACT / "manifest.json").read_text())


def test_every_file_has_the_hash_that_the_manifest_names() -> None:
    found = {path.name: sha256_of(path) for path in ARTIFACT.iterdir() if path.name != "manifest.json"}
    assert found == {name: entry["sha256"] for name, entry in MANIFEST["files"].items()}


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in ARTIFACT.iterdir()) <= MAX_BYTES


def test_it_was_made_by_the_recipe_in_the_repository() -> None:
    assert MANIFEST["recipe_sha256"] == load_recipe(HOME / "recipes" / "reranker.yaml").hash


def test_the_manifest_says_where_it_comes_from() -> None:
    assert {"command", "commit", "date", "machine", "pairs", "dev"} <= set(MANIFEST)
    assert MANIFEST["pairs"]["labels_questions_sha256"]


def test_the_card_names_data_licence_quality_and_limits() -> None:
    card = (ARTIFACT / "README.md").read_text()
    for heading in ("## Data", "## Training", "## Measured", "## What did not work", "## Limits", "## Licence"):
        assert heading in card
