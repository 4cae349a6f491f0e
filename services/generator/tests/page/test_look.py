"""Themes, contrast, names of controls, narrow screens."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from page_backend import Backend
from playwright.sync_api import Page, expect

Open = Callable[..., AbstractContextManager[Page]]
QUESTION = "How do I show the history of a file?"
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
VIEWS = ("ask", "compare", "search", "documents", "history")

LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, ground(element.parentElement));
  };
  const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, .skip, :disabled, .pending")) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const [a, b] = [light(over(rgba(style.color), behind)), light(behind)].sort((x, y) => y - x);
    const px = parseFloat(style.fontSize);
    const least = px >= 24 || (px >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    const what = `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`;
    if (ratio < least) bad.push(`${ratio.toFixed(2)} ${what}`);
  }
  return bad;
}"""


def every_view(page: Page) -> Iterator[str]:
    """Each view with something in it; the page is there while the name is yielded."""
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#view-ask .verdict")).to_be_visible()
    page.locator("#view-ask").get_by_text("How this was found").click()
    yield "ask"
    page.locator("#view-ask button.cite").first.click()
    expect(page.locator("#panel .chunk.here")).to_be_visible()
    yield "document"
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_label("Arm B").get_by_role("combobox")).to_be_visible()
    page.get_by_label("Question for both").fill("x" * 80)
    page.keyboard.press("Enter")
    expect(page.locator("#view-compare .verdict").nth(1)).to_be_visible()
    yield "compare"
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Search for").fill("file")
    page.keyboard.press("Enter")
    expect(page.locator(".result").first).to_be_visible()
    yield "search"
    page.locator("nav").get_by_role("link", name="Documents").click()
    page.get_by_label("Choose files").set_input_files(
        [{"name": f"{'long-name' * 12}.{kind}", "mimeType": "text/plain", "buffer": b"text"} for kind in ("md", "exe")]
    )
    expect(page.locator(".uploads .failed")).to_be_visible()
    expect(page.locator(".uploads .ready")).to_be_visible()
    yield "documents"
    page.get_by_role("link", name="History").click()
    expect(page.locator(".past li").first).to_be_visible()
    yield "history"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_themes(open_page: Open, scheme: str) -> None:
    with open_page(color_scheme=scheme) as page:
        for view in every_view(page):
            assert page.evaluate(LOW_CONTRAST) == [], view


def test_a_phone_scrolls_only_down(open_page: Open) -> None:
    with open_page(**PHONE) as page:
        for view in every_view(page):
            assert page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]") == [360, 360], view


def test_every_control_has_a_name(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    controls = {
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "progressbar",
        "dialog",
        "DisclosureTriangle",
    }
    for view in every_view(page):
        nodes: list[Any] = session.send("Accessibility.getFullAXTree")["nodes"]
        shown = [n for n in nodes if not n.get("ignored") and n["role"]["value"] in controls]
        assert len(shown) > 8
        assert [n["role"]["value"] for n in shown if not n.get("name", {}).get("value")] == [], view


def test_the_theme_is_the_systems_until_one_is_chosen(open_page: Open) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    with open_page(color_scheme="dark") as page:
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Light theme").click()
        light = page.evaluate(ground)
        assert (dark, light) == ("rgb(20, 21, 23)", "rgb(250, 249, 247)")
        page.reload()
        expect(page.get_by_role("button", name="Dark theme")).to_be_visible()
        assert page.evaluate(ground) == light


def test_answers_are_read_out_sentence_by_sentence(page: Page, backend: Backend) -> None:
    backend.pause_after = 2
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    live = page.locator("#live")
    expect(live).to_have_attribute("aria-live", "polite")
    expect(live).to_contain_text("Use git log --follow to list the history of a file, also beyond renames.")
    backend.go()
    expect(live).to_contain_text("Answer complete, 2 sources cited.")


def test_nothing_moves_where_motion_is_reduced(page: Page, backend: Backend) -> None:
    backend.pause_after = 0
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".dots")).to_be_visible()
    assert page.evaluate("() => document.getAnimations().length") == 0
