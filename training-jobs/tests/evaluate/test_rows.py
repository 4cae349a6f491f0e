from pathlib import Path

from capstan.jobs.evaluate.rows import Rows, key_of


def test_what_was_put_is_there_in_the_next_run(tmp_path: Path):
    Rows(tmp_path / "new/rows.jsonl").put("a", {"hits": [1, 2]})
    assert Rows(tmp_path / "new/rows.jsonl").get("a") == {"hits": [1, 2]}


def test_a_row_that_a_killed_process_left_half_written_is_asked_again(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = Rows(path)
    rows.put("a", {"n": 1})
    rows.put("b", {"n": 2})
    path.write_bytes(path.read_bytes()[:-5])
    again = Rows(path)
    assert again.get("a") == {"n": 1}
    assert again.get("b") is None
    again.put("b", {"n": 3})
    assert Rows(path).get("b") == {"n": 3}


def test_the_last_row_of_a_key_counts(tmp_path: Path):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.put("a", {"n": 1})
    rows.put("a", {"n": 2})
    assert Rows(tmp_path / "rows.jsonl").get("a") == {"n": 2}


def test_keys_tell_apart_what_was_asked_and_not_how_it_was_ordered():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of("ab", "c") != key_of("a", "bc")
