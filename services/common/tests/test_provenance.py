import sys

import pytest

from capstan.common.provenance import provenance


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/home/me/bench.py", "--out", "/home/me/result.json", "a/b"], "python bench.py --out result.json a/b"),
        (
            ["bench.py", "--judge-key", "sk-1", "--key=sk-2", "--keys", "3"],
            "python bench.py --judge-key … --key=… --keys 3",
        ),
        (["bench.py", "--url", "https://me:pass@host/v1"], "python bench.py --url https://…@host/v1"),
    ],
)
def test_a_result_says_how_it_was_made_without_paths_and_secrets(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert provenance()["command"] == command
