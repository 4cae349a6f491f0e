"""Shapes of load and tenants' keys, without Locust."""

from pathlib import Path

import pytest

from loadtest.users.keys import KeysError, tenants
from loadtest.users.shapes import SHAPES, users_at


def test_steps_rise_to_the_peak() -> None:
    assert [users_at("step", second, 100, 50) for second in (0, 25, 45, 65, 99)] == [10, 20, 30, 40, 50]


def test_a_spike_is_in_the_middle_and_over_again() -> None:
    assert [users_at("spike", second, 100, 50) for second in (0, 39, 40, 59, 60, 99)] == [10, 10, 50, 50, 10, 10]


def test_a_soak_rises_and_holds_four_fifths() -> None:
    assert [users_at("soak", second, 1000, 50) for second in (0, 25, 50, 999)] == [1, 20, 40, 40]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_ends(shape: str) -> None:
    assert users_at(shape, 100, 100, 50) is None


def test_keys_come_from_the_environment_a_file_or_the_native_stack(tmp_path: Path) -> None:
    file, native = tmp_path / "keys", tmp_path / "api-key"
    file.write_text("# tenants\none\ntwo\n")
    native.write_text("own\n")
    assert tenants("a,b", str(file), native) == ["a", "b"]
    assert tenants("", str(file), native) == ["one", "two"]
    assert tenants("", "", native) == ["own"]


def test_without_keys_one_is_told_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="LOADTEST_KEYS"):
        tenants("", "", tmp_path / "none")
    with pytest.raises(KeysError, match="one API key in each line"):
        tenants("", str(tmp_path / "none"))
