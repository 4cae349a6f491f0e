"""The history: equal to what was sent, one tenant's alone, and kept whatever happens to the process or the disk."""

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from capstan.common.errors import ApiError
from capstan.common.identity import IDENTITY_HEADER, Identity, Signer
from capstan.generator.records import Records

BODY = {"model": "docs", "messages": [{"role": "user", "content": "How do I stage a file?"}]}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what happens in the background; the test's timeout ends it."""
    while not await condition():
        await asyncio.sleep(0.005)


async def _list(setup: Any, **query: Any) -> Any:
    response = await setup.client.get("/v1/answers", params=query)
    assert response.status_code == 200
    return response.json()


@pytest.mark.parametrize("model", ["docs", "docs:extractive"])
async def test_a_streamed_answer_is_kept_as_it_was_sent(generator: Any, chunks_of: Any, model: str) -> None:
    setup = await generator()
    *parts, done = chunks_of(await setup.ask(stream=True, model=model, capstan={"trace": True}))
    assert done == "[DONE]"
    kept = (await setup.client.get(f"/v1/answers/{parts[0]['id']}")).json()
    assert {part["id"] for part in parts} == {kept["id"]}
    assert {part["created"] for part in parts} == {kept["created"]}
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts if part["choices"])
    assert (kept["answer"], kept["question"]) == (text, "How do I stage a file?")
    last = parts[-1]
    assert kept["annotations"] == last["choices"][0]["delta"]["annotations"] != []
    assert kept["capstan"] == last["capstan"]
    assert (kept["model"], kept["arm"]) == (last["model"], last["capstan"]["arm"])
    assert (kept["finish_reason"], kept["incomplete"]) == (last["choices"][0]["finish_reason"], False)


async def test_a_whole_answer_is_kept_as_it_was_sent(generator: Any) -> None:
    setup = await generator()
    sent = (await setup.ask()).json()
    kept = (await setup.client.get(f"/v1/answers/{sent['id']}")).json()
    message = sent["choices"][0]["message"]
    assert (kept["answer"], kept["annotations"]) == (message["content"], message["annotations"])
    for field in ("id", "created", "model", "capstan", "usage"):
        assert kept[field] == sent[field]


async def test_of_a_follow_up_the_users_own_words_are_the_question(generator: Any) -> None:
    setup = await generator()
    said = [*BODY["messages"], {"role": "assistant", "content": "git add"}, {"role": "user", "content": "And undo it?"}]
    sent = (await setup.client.post("/v1/chat/completions", json={"model": "docs", "messages": said})).json()
    kept = (await setup.client.get(f"/v1/answers/{sent['id']}")).json()
    assert kept["question"] == "And undo it?"
    assert kept["capstan"]["question"] == sent["capstan"]["question"] != "And undo it?"


async def test_ids_differ_even_if_a_client_repeats_its_request_id(generator: Any) -> None:
    setup = await generator()
    headers = {"x-request-id": "same"}
    sent = [(await setup.client.post("/v1/chat/completions", json=BODY, headers=headers)).json() for _ in range(2)]
    kept = [row["id"] for row in (await _list(setup))["data"]]
    assert kept == [body["id"] for body in reversed(sent)]


async def test_an_answer_whose_client_left_is_kept_with_what_was_sent(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.pause = True
    seen = ""
    async with setup.client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response:
        async for line in response.aiter_lines():
            seen += line
            if "stage" in line:  # the model has begun and is silent now
                break

    async def kept() -> bool:
        return bool((await _list(setup))["data"])

    await until(kept)
    (row,) = (await _list(setup))["data"]
    assert row["incomplete"] is True
    assert row["answer"].startswith("Use git add to stage a file.")
    assert row["id"] in seen
    record = (await setup.client.get(f"/v1/answers/{row['id']}")).json()
    assert all(a["url_citation"]["end_index"] <= len(row["answer"]) for a in record["annotations"])
    assert record["finish_reason"] is None


async def test_an_answer_that_broke_off_is_kept_as_incomplete_if_it_was_streamed(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.end = []
    assert (await setup.ask()).status_code == 502  # nothing of it was sent
    await setup.ask(stream=True)
    (row,) = (await _list(setup))["data"]
    assert row["incomplete"] is True


async def test_the_history_is_read_in_pages_also_while_it_changes(generator: Any) -> None:
    setup = await generator()
    ids = [(await setup.ask(f"How do I stage file {n}?")).json()["id"] for n in range(5)]
    first = await _list(setup, limit=2)
    assert [row["id"] for row in first["data"]] == [ids[4], ids[3]]
    await setup.client.delete(f"/v1/answers/{ids[3]}")
    await setup.ask()
    second = await _list(setup, limit=2, cursor=first["next"])
    assert [row["id"] for row in second["data"]] == [ids[2], ids[1]]
    third = await _list(setup, limit=2, cursor=second["next"])
    assert ([row["id"] for row in third["data"]], third["next"]) == ([ids[0]], None)
    refused = await setup.client.get("/v1/answers", params={"cursor": "nonsense"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cursor")


async def test_a_deleted_answer_is_gone(generator: Any) -> None:
    setup = await generator()
    path = f"/v1/answers/{(await setup.ask()).json()['id']}"
    assert (await setup.client.delete(path)).json()["deleted"] is True
    for method in ("GET", "DELETE"):
        response = await setup.client.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "answer_not_found")


RECORDS = ("/v1/answers", "/v1/feedback", "/v1/interleave")
SEARCH = {"query": "q", "a": "bm25", "b": "dense"}


async def test_no_route_shows_or_takes_another_tenants_records(generator: Any, identity_secret: str) -> None:
    setup = await generator()
    answer = (await setup.ask()).json()["id"]
    interleaving = (await setup.client.post("/v1/interleave", json=SEARCH)).json()
    await setup.client.post("/v1/feedback", json={"answer_id": answer, "kind": "up"})
    click = {"interleaving_id": interleaving["id"], "kind": "click", "chunk_id": interleaving["results"][0]["id"]}
    await setup.client.post("/v1/feedback", json=click)
    other = {IDENTITY_HEADER: Signer(identity_secret).sign(Identity("other", "gateway"))}
    walked: set[tuple[str, str]] = set()

    async def ask(method: str, path: str, body: Any = None) -> Any:
        walked.add((method.lower(), path.replace(answer, "{id}")))
        return await setup.client.request(method, path, json=body, headers=other)

    assert (await ask("GET", "/v1/answers")).json() == {"data": [], "next": None}
    assert (await ask("GET", f"/v1/answers/{answer}")).status_code == 404
    assert (await ask("DELETE", f"/v1/answers/{answer}")).status_code == 404
    assert (await ask("POST", "/v1/feedback", {"answer_id": answer, "kind": "down"})).status_code == 404
    assert (await ask("POST", "/v1/feedback", click)).status_code == 404
    assert (await ask("GET", "/v1/feedback/report")).json() == {"pairs": [], "thumbs": []}
    assert (await ask("POST", "/v1/interleave", SEARCH)).json()["id"] != interleaving["id"]
    paths = (await setup.client.get("/openapi.json")).json()["paths"]
    ours = {(method, path) for path in paths for method in paths[path] if path.startswith(RECORDS)}
    assert walked == ours  # a new route has to be walked too
    report = (await setup.client.get("/v1/feedback/report")).json()
    assert (report["thumbs"][0]["up"], report["pairs"][0]["impressions"]) == (1, 1)
    del setup.client.headers[IDENTITY_HEADER]
    for method, path in ours:
        assert (await setup.client.request(method.upper(), path, json=SEARCH)).status_code == 401, path


async def test_without_history_nothing_is_kept(generator: Any) -> None:
    setup = await generator(keep_answers=0)
    sent = (await setup.ask()).json()
    assert (await _list(setup))["data"] == []
    assert (await setup.client.post("/v1/feedback", json={"answer_id": sent["id"], "kind": "up"})).status_code == 404


# faults


async def _failed(setup: Any, operation: str) -> float:
    text = (await setup.client.get("/metrics")).text
    start = f'capstan_generator_records_failed_total{{operation="{operation}"}}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))


async def test_without_a_usable_directory_answers_go_on_and_nothing_is_confirmed(
    generator: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    setup = await generator(data_dir=tmp_path / "file")
    sent = await setup.ask()
    assert sent.status_code == 200
    assert (await setup.ask(stream=True)).text.endswith("data: [DONE]\n\n")
    assert await _failed(setup, "answer") == 2
    for method, path, body in (
        ("GET", "/v1/answers", None),
        ("GET", f"/v1/answers/{sent.json()['id']}", None),
        ("DELETE", f"/v1/answers/{sent.json()['id']}", None),
        ("POST", "/v1/feedback", {"answer_id": sent.json()["id"], "kind": "up"}),
        ("POST", "/v1/interleave", SEARCH),
        ("GET", "/v1/feedback/report", None),
    ):
        response = await setup.client.request(method, path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "records_unavailable")
    (said,) = [r.getMessage() for r in caplog.records if r.name == "capstan.generator.records"]  # once, not each time
    assert "CAPSTAN_GENERATOR_DATA_DIR" in said
    (tmp_path / "file").unlink()  # repaired: no restart needed
    await setup.ask()
    assert len((await _list(setup))["data"]) == 1


def _records(directory: Path, now: Callable[[], float] = lambda: 1e9, keep_days: int = 30) -> Records:
    return Records(directory, keep_days=keep_days, registry=CollectorRegistry(), now=now)


def _record(id: str, text: str = "x") -> dict[str, Any]:
    return {"id": id, "arm": "default", "question": "q", "answer": text, "capstan": {"sources": []}}


async def _set_pages(records: Records, most: int) -> None:
    """The file may not grow past so many pages: SQLite then says that the disk is full."""
    await records._run("test", lambda db: db.execute(f"PRAGMA max_page_count = {most}").fetchall())


async def test_on_a_full_disk_what_is_there_can_be_read(tmp_path: Path) -> None:
    async with _records(tmp_path) as records:
        await records.keep("acme", _record("first"))
        await _set_pages(records, 1)  # no less than there are
        await records.keep("acme", _record("second", "x" * 100_000))  # does not raise
        assert await records.answer("acme", "first") is not None
        assert await records.answer("acme", "second") is None
        with pytest.raises(ApiError) as error:
            await records.add_feedback("acme", "first", "up", None, "x" * 100_000)
        assert error.value.status_code == 503
        assert await records.thumbs("acme") == []
        await _set_pages(records, 1_000_000)
        await records.add_feedback("acme", "first", "up", None, None)
        assert (await records.thumbs("acme"))[0].up == 1


async def test_a_file_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "records.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    async with _records(tmp_path) as records:
        await records.keep("acme", _record("x"))
        with pytest.raises(ApiError):
            await records.answer("acme", "x")
    db = sqlite3.connect(tmp_path / "records.sqlite3")
    assert db.execute("PRAGMA user_version").fetchone() == (99,)
    assert db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    db.close()


DAY = 86_400.0


async def test_records_outlive_a_restart_and_old_ones_go(tmp_path: Path) -> None:
    async with _records(tmp_path, now=lambda: 0.0) as records:
        await records.keep("acme", _record("old"))
        await records.add_feedback("acme", "old", "up", None, None)
    async with _records(tmp_path, now=lambda: 10 * DAY) as records:
        await records.keep("acme", _record("new"))
        assert await records.answer("acme", "old") is not None
    async with _records(tmp_path, now=lambda: 31 * DAY) as records:
        assert await records.answer("acme", "old") is None
        assert await records.answer("acme", "new") is not None
        assert (await records.thumbs("acme"))[0].up == 1  # kept longer: it holds neither question nor answer
    async with _records(tmp_path, now=lambda: 31 * DAY, keep_days=0) as records:
        assert await records._run("test", lambda db: db.execute("SELECT count(*) FROM answers").fetchone()) == (0,)


async def test_what_is_too_old_is_not_shown_even_before_it_is_pruned(tmp_path: Path) -> None:
    clock = [0.0]
    async with _records(tmp_path, now=lambda: clock[0], keep_days=1) as records:
        clock[0] = 1.0
        await records.keep("acme", _record("x"))
        clock[0] = DAY + 0.5
        assert await records.answer("acme", "x") is not None  # prunes, for the next hour
        clock[0] = DAY + 1.5
        assert await records.answer("acme", "x") is None
        assert await records.answers("acme", 10, None) == ([], None)


_WRITER = """
import asyncio, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from capstan.generator.records import Records

async def main():
    async with Records(Path(sys.argv[1]), keep_days=30, registry=CollectorRegistry()) as records:
        record = {"arm": "default", "question": "q", "answer": "x" * 5000, "capstan": {"sources": []}}
        for n in range(100000):
            await records.keep("acme", {**record, "id": str(n)})
            await records.add_feedback("acme", str(n), "up", None, None)
            print(n, flush=True)

asyncio.run(main())
"""


async def test_nothing_confirmed_is_lost_by_a_kill(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    confirmed = [await process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    confirmed += (await process.stdout.read()).splitlines()
    await process.wait()
    async with Records(tmp_path, keep_days=30, registry=CollectorRegistry()) as records:
        for line in confirmed:
            assert await records.answer("acme", line.decode().strip()) is not None
        assert (await records.thumbs("acme"))[0].up >= len(confirmed)
