"""Comparing two arms, and blind search."""

from page_backend import Backend
from playwright.sync_api import Page, expect

QUESTION = "How do I show the history of a file?"


def test_two_arms_answer_the_same_question_side_by_side_with_thumbs_each(page: Page, backend: Backend) -> None:
    page.get_by_role("link", name="Compare").click()
    columns = [page.get_by_role("region", name=f"Arm {name}") for name in "AB"]
    expect(columns[1].get_by_role("combobox")).to_have_value("docs:bm25")
    expect(columns[1]).to_contain_text("BM25 alone")
    backend.pause_after = 1
    page.get_by_label("Question for both").fill(QUESTION)
    page.keyboard.press("Enter")
    for column in columns:
        expect(column.locator(".prose")).to_contain_text("git log --follow")
        expect(column.locator(".answer")).to_have_attribute("aria-busy", "true")
    backend.go()
    for column, thumb in zip(columns, ("Useful", "Not useful"), strict=True):
        column.get_by_role("button", name=thumb, exact=True).click()
        expect(column.get_by_label("Comment")).to_be_visible()
    assert sorted(chat["model"] for chat in backend.chats) == ["docs", "docs:bm25"]
    arms = {backend.answers[f["answer_id"]]["capstan"]["arm"]: f["kind"] for f in backend.feedback}
    assert arms == {"default": "up", "bm25": "down"}


def test_one_arm_may_fail_while_the_other_answers(page: Page, backend: Backend) -> None:
    backend.failing_model = "docs:bm25"
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("region", name="Arm B").get_by_role("combobox")).to_have_value("docs:bm25")
    page.get_by_label("Question for both").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Arm A").locator(".verdict")).to_be_visible()
    expect(page.get_by_role("region", name="Arm B").get_by_role("alert")).to_contain_text("does not exist")


def test_the_arm_for_a_question_can_be_chosen(page: Page, backend: Backend) -> None:
    page.get_by_label("Answer with").select_option("bm25")
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("arm bm25")
    assert backend.chats[0]["model"] == "docs:bm25"


def test_a_click_in_blind_search_opens_the_passage_and_counts(page: Page, backend: Backend) -> None:
    page.get_by_role("link", name="Search").click()
    expect(page.get_by_label("Arm B")).to_have_value("bm25")
    page.get_by_label("Search for").fill("history of a file")
    page.keyboard.press("Enter")
    results = page.locator(".result")
    expect(results).to_have_count(3)
    expect(results.first.locator("mark").first).to_have_text("history")
    expect(page.locator("#view-search .results")).not_to_contain_text("bm25")
    results.first.click()
    expect(page.get_by_role("complementary").locator(".chunk.here")).to_contain_text("beyond renames")
    chunk = backend.sources()[0]["chunk_id"]
    expect(page.locator(".result.clicked")).to_have_count(1)
    assert backend.feedback == [{"interleaving_id": "interleaving-1", "kind": "click", "chunk_id": chunk}]


def test_what_the_votes_say_is_told_with_its_uncertainty(page: Page) -> None:
    page.get_by_role("link", name="Search").click()
    page.get_by_text("What the votes say so far").click()
    expect(page.get_by_role("table", name="Searches won, by clicks")).to_contain_text("8 : 1")
    expect(page.get_by_role("table", name="Searches won, by clicks")).to_contain_text("0.039")
    expect(page.get_by_role("table", name="Thumbs on answers")).to_contain_text("83 % (44 %–97 %)")
