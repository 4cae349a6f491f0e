"""A name per kind of vector: what is stored under one name can be searched together."""

from typing import Any

import pytest
from pydantic import ValidationError

from capstan.retriever.settings import RetrieverSettings
from capstan.retriever.versions import index_name


def settings(**fields: Any) -> RetrieverSettings:
    return RetrieverSettings.model_validate({"identity_secret": "x" * 32, **fields})


def test_the_default_index_keeps_its_name() -> None:
    """Another name means that everybody's documents are ingested and embedded again."""
    assert index_name(settings()) == "chunks-2eac186c4ded"
    assert index_name(settings(window_overlap=7)) == index_name(settings())  # of no effect on structure


def test_whatever_shapes_a_vector_or_a_chunk_changes_the_name() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"model": "package:other"},
        {"chunk_tokens": 256},
        {"small_tokens": 64},
        {"view_tokens": 128},
        {"heading_path": False},
        {"chunking": "window"},
        {"chunking": "window", "window_overlap": 0},
        {"chunking": "window", "heading_path": False},
    ]
    assert len({index_name(settings(**change)) for change in changes}) == len(changes)


def test_windows_that_would_not_move_on_are_refused() -> None:
    with pytest.raises(ValidationError, match="WINDOW_OVERLAP is 64; it must be less than CHUNK_TOKENS, 64"):
        settings(chunking="window", chunk_tokens=64, window_overlap=64)
