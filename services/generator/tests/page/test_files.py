"""The page's files and the headers they come with."""

import re
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from capstan.generator.page import FILES, page_router, read_assets


@pytest.fixture
async def client() -> httpx2.AsyncClient:
    app = FastAPI()
    app.include_router(page_router())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://page", follow_redirects=True)


async def test_everything_the_page_names_is_there_and_kept_for_good(client: httpx2.AsyncClient) -> None:
    page = await client.get("/")
    paths = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text))
    assert {path.rsplit("/", 1)[1] for path in paths} >= {"main.js", "base.css", "icon.svg"}
    for path in paths:
        asset = await client.get(path)
        assert asset.status_code == 200, path
        assert "immutable" in asset.headers["cache-control"]
        assert asset.headers["x-content-type-options"] == "nosniff"


async def test_every_module_is_announced_so_that_all_load_at_once(client: httpx2.AsyncClient) -> None:
    announced = re.findall(r'modulepreload" href="[^"]+/js/([^"]+)"', (await client.get("/")).text)
    assert sorted(announced) == sorted(path.name for path in (FILES / "js").glob("*.js"))


async def test_the_page_itself_is_asked_for_again_and_costs_nothing_when_it_is_the_same(
    client: httpx2.AsyncClient,
) -> None:
    first = await client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_nothing_may_run_that_is_not_a_file_of_the_page(client: httpx2.AsyncClient) -> None:
    page = await client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


@pytest.mark.parametrize("path", ["nothing.js", "../page.py", "%2e%2e/page.py", "js", ""])
async def test_no_other_file_is_served(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(f"/assets/x/{path}")).status_code == 404


async def test_a_change_in_any_file_changes_every_path(tmp_path: Path) -> None:
    async def script_path() -> str:
        app = FastAPI()
        app.include_router(page_router(tmp_path))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://page") as client:
            return (await client.get("/")).text

    (tmp_path / "index.html").write_text("{{assets}}/a.js")
    (tmp_path / "a.js").write_text("1")
    before = await script_path()
    (tmp_path / "a.js").write_text("2")
    assert await script_path() != before


async def test_another_versions_path_is_answered_but_not_kept(client: httpx2.AsyncClient) -> None:
    old = await client.get("/assets/0123456789ab/js/main.js")
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")


def test_the_page_is_small() -> None:
    assert sum(len(asset.content) for asset in read_assets().values()) < 120_000


def test_no_file_names_another_host() -> None:
    for path, asset in read_assets().items():
        text = asset.content.decode().replace("http://www.w3.org/", "")  # namespaces
        assert not re.search(r"https?://[a-z]", text), path
