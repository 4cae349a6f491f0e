"""Pictures of the web page, taken from a running stack: a screenshot in light and in dark, and a short screencast.

    make run                          # in another terminal
    python docs/make_pictures.py      # writes docs/images/page-light.png, page-dark.png, page.webp

Nothing is staged but the questions. In the screencast, stillness longer than `STILL_S` is cut to that; what moves,
such as an answer that streams, has its real speed. Needs Chromium, Playwright and Pillow.
"""

import argparse
import asyncio
import base64
import io
import itertools
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser, CDPSession, Locator, Page, async_playwright

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "How do I show the commits that changed a file in git?"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
MOST_PNG, MOST_WEBP = 300_000, 2_500_000  # bytes
STILL_S, LAST_S, FRAME_S = 1.0, 1.8, 0.1
PATIENCE_MS = 120_000
CURSOR = """() => {
  const dot = document.createElement("div");
  const look = { position: "fixed", zIndex: 99, width: "18px", height: "18px", borderRadius: "50%", left: "-30px",
    background: "rgb(20 120 110 / 45%)", border: "2px solid white", boxShadow: "0 0 4px rgb(0 0 0 / 40%)",
    pointerEvents: "none", transform: "translate(-50%, -50%)" };
  Object.assign(dot.style, look);
  document.body.append(dot);
  document.documentElement.style.caretColor = "transparent"; // its blinking would count as movement
  addEventListener("pointermove", (e) => { dot.style.left = `${e.clientX}px`; dot.style.top = `${e.clientY}px` }, true);
}"""


@dataclass
class Film:
    """The frames of a screencast and when each of them was shown, in seconds."""

    session: CDPSession
    frames: list[tuple[float, bytes]] = field(default_factory=list)

    async def start(self, width: int, height: int) -> None:
        """Chromium sends a frame for every change, at most as fast as they are taken."""
        self.session.on("Page.screencastFrame", lambda event: asyncio.ensure_future(self._take(event)))
        size = {"maxWidth": width, "maxHeight": height}
        await self.session.send("Page.startScreencast", {"format": "jpeg", "quality": 92, **size})

    async def _take(self, event: dict[str, Any]) -> None:
        self.frames.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
        await self.session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    def thinned(self) -> list[tuple[bytes, int]]:
        """Frames at most `1 / FRAME_S` a second, each with how long it stands, in milliseconds."""
        kept: list[tuple[float, bytes]] = []
        for at, image in sorted(self.frames, key=lambda frame: frame[0]):
            if kept and at - kept[-1][0] < FRAME_S:
                kept[-1] = (kept[-1][0], image)
            elif not kept or image != kept[-1][1]:
                kept.append((at, image))
        stand = [min(STILL_S, after[0] - before[0]) for before, after in itertools.pairwise(kept)]
        return [(image, round(1000 * s)) for (_, image), s in zip(kept, [*stand, LAST_S], strict=True)]


async def screenshot(browser: Browser, url: str, key: str, scheme: Any, question: str, out: Path) -> None:
    """An answer with the document behind its first citation, open at the quoted words."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 800}, device_scale_factor=2, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    await page.goto(f"{url}/#key={key}")
    await ask(page, page.get_by_label("Your question"), question, delay=0)
    await page.locator("#view-ask button.cite").first.click()
    await page.locator("#panel .chunk.here").wait_for()
    await page.mouse.move(1, 400)
    await page.wait_for_load_state("networkidle")
    write_png(await page.screenshot(), out)
    await context.close()


async def screencast(browser: Browser, url: str, key: str, question: str, out: Path) -> None:
    """Ask, look behind a citation, see how it was found, compare two arms."""
    width, height = 1120, 700
    context = await browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    await page.goto(f"{url}/#key={key}")
    await page.get_by_label("Answer with").wait_for()
    await page.evaluate(CURSOR)
    film = Film(await context.new_cdp_session(page))
    await film.start(width, height)
    await ask(page, page.get_by_label("Your question"), question, delay=22)
    chip = page.locator("#view-ask button.cite").first
    await point(page, chip)
    await page.wait_for_timeout(1200)
    await chip.click()
    await page.locator("#panel .chunk.here").wait_for()
    await page.wait_for_timeout(1200)
    await page.keyboard.press("Escape")
    await page.mouse.move(60, height / 2, steps=8)  # away from the card
    how = page.locator("#view-ask").get_by_text("How this was found")
    await point(page, how)
    await how.click()
    await page.locator("#view-ask .timings").scroll_into_view_if_needed()
    await page.wait_for_timeout(300)
    await point(page, page.get_by_role("region", name="Reranked").locator(".hit").first)
    await page.wait_for_timeout(1300)
    compare = page.get_by_role("link", name="Compare")
    await point(page, compare)
    await compare.click()
    await ask(page, page.get_by_label("Question for both"), question, delay=8, answers=2)
    await page.wait_for_timeout(800)
    await film.session.send("Page.stopScreencast")
    write_webp(film.thinned(), out)
    await context.close()


async def ask(page: Page, box: Locator, question: str, *, delay: float, answers: int = 1) -> None:
    """Type, send, and wait for the answers' ends."""
    await box.press_sequentially(question, delay=delay)
    await box.press("Enter")
    verdicts = page.locator("section:not([hidden]) > * .verdict")
    await verdicts.nth(answers - 1).wait_for()
    if not await page.locator("section:not([hidden]) button.cite").count():
        sys.exit(f"the answer to {question!r} cites nothing to show: give another --question")


async def point(page: Page, target: Locator) -> None:
    """Move the pointer there as a hand would."""
    await target.scroll_into_view_if_needed()
    if box := await target.bounding_box():
        await page.mouse.move(box["x"] + min(box["width"], 120) / 2, box["y"] + box["height"] / 2, steps=12)


def write_png(image: bytes, out: Path) -> None:
    """As many colours as fit into the size allowed; a page like this one needs few."""
    picture = Image.open(io.BytesIO(image)).convert("RGB")
    for colors in (256, 128, 64, 32):
        picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, optimize=True)
        if out.stat().st_size <= MOST_PNG:
            break
    said(out, MOST_PNG)


def write_webp(frames: list[tuple[bytes, int]], out: Path) -> None:
    """As good as fits into the size allowed."""
    pictures = [Image.open(io.BytesIO(image)).convert("RGB") for image, _ in frames]
    durations = [duration for _, duration in frames]
    for quality in (72, 55, 40, 25):
        options: dict[str, Any] = {"quality": quality, "method": 4, "loop": 0, "duration": durations}
        pictures[0].save(out, save_all=True, append_images=pictures[1:], **options)
        if out.stat().st_size <= MOST_WEBP:
            break
    sys.stdout.write(f"{len(frames)} frames, {sum(durations) / 1000:.1f} s\n")
    said(out, MOST_WEBP)


def said(out: Path, most: int) -> None:
    """Tell the size; fail when it is too large to be committed."""
    sys.stdout.write(f"{out}: {out.stat().st_size // 1000} kB\n")
    if out.stat().st_size > most:
        sys.exit(f"{out} is larger than {most // 1000} kB: shorten what is shown")


def running(state: Path) -> tuple[str, str]:
    """URL and key of the stack that `make run` has started here."""
    try:
        url = json.loads((state / "running.json").read_text())["gateway"]
        return str(url), (state / "api-key").read_text().strip()
    except FileNotFoundError:
        sys.exit("no stack is running here: start one with 'make run', or give --url and --key")


async def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a gateway; default: the stack that runs here")
    parser.add_argument("--key", help="API key for it")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    given = parser.parse_args()
    url, key = (given.url, given.key) if given.url and given.key else running(ROOT / ".capstan")
    chromium = os.environ.get("CAPSTAN_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("no Chromium: install Debian's package 'chromium', or set CAPSTAN_CHROMIUM")
    given.out.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for scheme in ("light", "dark"):
            out = given.out / f"page-{scheme}.png"
            await screenshot(browser, url, key, scheme, given.question, out)
        await screencast(browser, url, key, given.question, given.out / "page.webp")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
