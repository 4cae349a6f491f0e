"""The web page: plain files beside this module, with headers that let nothing else run.

Modules import each other by relative path, so one digest in the path of all of them makes every file immutable:
a new version is a new path, and only the page itself is asked for again.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from capstan.common.errors import ApiError

FILES = Path(__file__).with_name("static")

HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
            # The browser itself refuses markup made from data, whatever the scripts do.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    media_type: str


def read_assets(root: Path = FILES) -> dict[str, Asset]:
    """Every file under `root`, by its path from there."""
    return {
        path.relative_to(root).as_posix(): Asset(path.read_bytes(), _media_type(path))
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def page_router(root: Path = FILES) -> APIRouter:
    """`GET /` and `GET /assets/…`, read once. They are public: whoever asks gets the same bytes."""
    assets = read_assets(root)
    digest = _digest(assets)
    index = _index(assets.pop("index.html"), digest, assets)
    etag = f'"{hashlib.sha256(index.content).hexdigest()[:16]}"'
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        """The page."""
        headers = {**HEADERS, "cache-control": "no-cache", "etag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(index.content, media_type=index.media_type, headers=headers)

    @router.api_route("/assets/{version}/{path:path}", methods=["GET", "HEAD"])
    async def asset(version: str, path: str) -> Response:
        """A style sheet, script or icon. Another version's path still works, but is not kept."""
        if (found := assets.get(path)) is None:
            raise ApiError(404, "not_found", f"the page has no file {path[:100]!r}")
        kept = "public, max-age=31536000, immutable" if version == digest else "no-cache"
        return Response(found.content, media_type=found.media_type, headers={**HEADERS, "cache-control": kept})

    return router


def _digest(assets: dict[str, Asset]) -> str:
    whole = hashlib.sha256()
    for path, found in assets.items():
        whole.update(f"{path}\0{len(found.content)}\0".encode())
        whole.update(found.content)
    return whole.hexdigest()[:12]


def _index(index: Asset, digest: str, assets: dict[str, Asset]) -> Asset:
    """The page with its files' paths in it, and its modules announced so that they load at once."""
    modules = [path for path in assets if path.endswith(".js")]
    links = "\n".join(f'<link rel="modulepreload" href="/assets/{digest}/{path}">' for path in modules)
    text = index.content.decode().replace("{{assets}}", f"/assets/{digest}").replace("{{modules}}", links)
    return Asset(text.encode(), index.media_type)


def _media_type(path: Path) -> str:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
