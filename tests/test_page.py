"""The web page against the whole stack, in a browser: ask, cite, compare, upload, ask about it, delete."""

from collections.abc import Iterator

import pytest
from page_browser import browser, opened
from playwright.sync_api import Browser, FilePayload, Page, expect
from running_stack import DOCUMENTS, RunningStack

QUESTION = "How do I record the current state of the working directory with git?"
HANDBOOK: FilePayload = {
    "name": "handbook.md",
    "mimeType": "text/markdown",
    "buffer": b"# Harbour handbook\n\n## Mooring\n\nThe zephyrine mooring line is renewed every seven months"
    b" by the harbour master of Quillport.\n",
}
ABOUT_HANDBOOK = "How often is the zephyrine mooring line of Quillport renewed?"


@pytest.fixture(params=["simulated", pytest.param("vllm", marks=pytest.mark.vllm)], scope="module")
def running(request: pytest.FixtureRequest) -> RunningStack:
    stack = request.getfixturevalue("stack" if request.param == "simulated" else "vllm_stack")
    assert isinstance(stack, RunningStack)
    return stack


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def page(chromium: Browser, running: RunningStack) -> Iterator[Page]:
    with opened(chromium, running.url("gateway"), running.key) as opened_page:
        yield opened_page


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator("#view-ask .verdict").last).to_be_visible()


def test_a_question_is_answered_with_citations_that_open_their_document(page: Page) -> None:
    ask(page, QUESTION)
    chip = page.locator("#view-ask button.cite").first
    chip.hover()
    quoted = page.get_by_role("tooltip").locator("mark").inner_text()
    texts = [section["text"] for document in DOCUMENTS for section in document["sections"]]  # type: ignore[attr-defined]
    assert any(quoted in text for text in texts)
    chip.click()
    expect(page.get_by_role("complementary").locator(".chunk.here mark")).to_have_text(quoted)


def test_every_stage_of_the_search_is_shown(page: Page) -> None:
    ask(page, QUESTION)
    page.get_by_text("How this was found").click()
    for stage in ("BM25", "Fused", "Reranked"):
        expect(page.get_by_role("region", name=stage, exact=True).locator(".hit").first).to_be_visible()


def test_the_same_citations_are_there_after_a_reload(page: Page) -> None:
    ask(page, QUESTION)
    before = [chip.get_attribute("aria-label") for chip in page.locator("#view-ask button.cite").all()]
    assert before
    page.reload()
    expect(page.locator("#view-ask .verdict")).to_be_visible()
    assert [chip.get_attribute("aria-label") for chip in page.locator("#view-ask button.cite").all()] == before
    page.get_by_role("button", name="Useful", exact=True).click()
    expect(page.get_by_label("Comment")).to_be_visible()


def test_two_arms_answer_side_by_side(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("Arm B").get_by_role("combobox").select_option("bm25")
    page.get_by_label("Question for both").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#view-compare .verdict")).to_have_count(2)
    expect(page.get_by_role("region", name="Arm B")).to_contain_text("arm bm25")


def test_a_click_in_blind_search_counts(page: Page) -> None:
    page.get_by_role("link", name="Search").click()
    expect(page.get_by_label("Arm B")).to_be_visible()
    page.get_by_label("Search for").fill("creates a pipe")
    page.keyboard.press("Enter")
    page.locator(".result").first.click()
    expect(page.get_by_role("complementary").locator(".chunk.here")).to_be_visible()
    expect(page.locator(".result.clicked")).to_have_count(1)


def test_an_uploaded_file_is_asked_about_and_deleted(page: Page) -> None:
    page.locator("nav").get_by_role("link", name="Documents").click()
    page.get_by_label("Choose files").set_input_files(
        [HANDBOOK, {"name": "tool.exe", "mimeType": "application/x-msdownload", "buffer": b"MZ\0"}]
    )
    expect(page.locator(".uploads .failed")).to_contain_text("tool.exe is of no supported kind")
    expect(page.locator(".uploads .ready")).to_contain_text("handbook.md")
    expect(page.locator(".docs li")).to_have_count(1)  # ours, without the shared ones
    page.get_by_role("link", name="Ask", exact=True).click()
    ask(page, ABOUT_HANDBOOK)
    chip = page.locator("#view-ask button.cite").first
    expect(chip).to_have_attribute("aria-label", "Source 1: Harbour handbook, Mooring")
    chip.click()
    expect(page.get_by_role("complementary").locator("mark")).to_contain_text("zephyrine mooring line")
    page.keyboard.press("Escape")
    page.locator("nav").get_by_role("link", name="Documents").click()
    page.get_by_role("button", name="Delete Harbour handbook").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("“Harbour handbook” is deleted.")).to_be_visible()
    expect(page.get_by_role("button", name="Delete Harbour handbook")).to_have_count(0)
