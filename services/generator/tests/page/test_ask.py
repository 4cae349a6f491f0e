"""Asking: streaming, citations, the document beside, follow-ups, stopping, failures, history."""

import re

from page_backend import LOG_TEXT, QUOTE, Backend, Script
from playwright.sync_api import Page, expect

from capstan.common.errors import ApiError

QUESTION = "How do I show the history of a file?"


def ask(page: Page, question: str = QUESTION) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def ask_and_wait(page: Page, question: str = QUESTION) -> None:
    ask(page, question)
    expect(page.locator("#view-ask .verdict").last).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


def test_text_shows_while_it_streams(page: Page, backend: Backend) -> None:
    backend.pause_after = 1
    ask(page)
    expect(page.locator(".prose")).to_contain_text("Use git log --follow to list the history of a file,")
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    backend.go()
    expect(page.locator(".prose")).to_contain_text("put away with git stash.")
    expect(page.locator(".answer")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("pre")).to_have_text("git log --follow -- file.c")


def test_before_the_first_word_the_page_says_how_many_passages_are_read(page: Page, backend: Backend) -> None:
    backend.pause_after = 0
    ask(page)
    expect(page.locator(".status")).to_have_text("Reading 3 passages…")


def test_a_citation_shows_its_passage_with_the_quoted_words_marked(page: Page) -> None:
    ask_and_wait(page)
    page.locator("button.cite").first.hover()
    card = page.get_by_role("tooltip")
    expect(card.locator("mark")).to_have_text(QUOTE)
    for part in ("git-log(1)", "OPTIONS › --follow", LOG_TEXT, "GPL-2.0-only", "relevance 0.73"):
        expect(card).to_contain_text(part)
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_a_click_opens_the_document_at_the_passage_and_reads_on_both_ways(page: Page) -> None:
    ask_and_wait(page)
    page.locator("button.cite").first.click()
    panel = page.get_by_role("complementary")
    expect(panel.locator(".chunk.here mark")).to_have_text(QUOTE)
    expect(panel.locator(".chunk.here mark")).to_be_in_viewport()
    expect(panel).not_to_contain_text("Option 50 of")
    panel.get_by_role("button", name="Earlier passages").click()
    expect(panel).to_contain_text("Option 50 of")
    panel.get_by_role("button", name="Later passages").click()
    expect(panel).to_contain_text("Option 69 of")
    expect(panel.get_by_role("button", name="Later passages")).to_be_hidden()


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    expect(page.get_by_label("Your question")).to_be_focused()
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("In git.")
    page.keyboard.press("Enter")
    expect(page.locator(".question")).to_have_text(f"{QUESTION}\nIn git.")
    expect(page.locator(".verdict")).to_be_visible()
    chip = page.locator("button.cite").first
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        if chip.evaluate("chip => chip === document.activeElement"):
            break
    expect(chip).to_be_focused()
    expect(page.get_by_role("tooltip").locator("mark")).to_have_text(QUOTE)
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_be_hidden()
    expect(chip).to_be_focused()
    expect(page.get_by_role("tooltip")).to_be_hidden()


def test_what_no_passage_supports_is_marked(page: Page) -> None:
    ask_and_wait(page)
    marked = page.locator(".unsupported")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("It is by far the fastest way.")
    expect(marked).to_have_attribute("title", "No passage supports this sentence")
    expect(page.locator(".verdict")).to_contain_text("2 of 3 sentences supported")


def test_positions_count_characters_also_beyond_the_basic_plane(page: Page, backend: Backend) -> None:
    backend.scripts[QUESTION] = Script(["𝛼 🚢 Ships sail. [1] 𝛽 Done."], [("[1]", 1, QUOTE)], unsupported=["𝛽 Done."])
    ask_and_wait(page)
    expect(page.locator(".unsupported")).to_contain_text("𝛽 Done.")
    expect(page.locator(".prose p")).to_have_text(re.compile(r"^𝛼 🚢 Ships sail\.1 𝛽 Done\."))


def test_how_an_answer_came_about_is_said_plainly(page: Page, backend: Backend) -> None:
    note = "the language model is overloaded"
    backend.scripts["quoted"] = Script(["“Quoted.” [1]"], [("[1]", 1, QUOTE)], mode="extractive", note=note)
    backend.scripts["none"] = Script(["I could not find an answer."], mode="abstained")
    ask_and_wait(page, "quoted")
    expect(page.locator(".mode").last).to_have_text("Quoted")
    expect(page.locator(".note").last).to_have_text("The language model is overloaded.")
    ask_and_wait(page, "none")
    expect(page.locator(".mode").last).to_have_text("No answer")


def test_how_it_was_found_shows_each_stage_with_scores_and_how_places_changed(page: Page) -> None:
    ask_and_wait(page)
    page.get_by_text("How this was found").click()
    for stage, scores in {"BM25": ["14.2"], "Dense": ["0.61"], "Fused": ["0.032"], "Reranked": ["0.73"]}.items():
        for score in scores:
            expect(page.get_by_role("region", name=stage, exact=True)).to_contain_text(score)
    fused = page.get_by_role("region", name="Fused").locator(".hit")
    expect(fused.first).to_contain_text("BM25 3 · dense 1")
    reranked = page.get_by_role("region", name="Reranked").locator(".hit")
    expect(reranked.first.get_by_role("img")).to_have_attribute("aria-label", "up 2, from 3")
    expect(reranked.nth(1).get_by_role("img")).to_have_attribute("aria-label", "down 1, from 1")
    expect(page.locator(".timings")).to_contain_text("writing1.4 s")
    reranked.first.hover()
    expect(page.locator(".hit.same")).to_have_count(4)


def test_a_follow_up_carries_the_conversation_without_its_markers(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    ask_and_wait(page, "And of a directory?")
    said = backend.chats[-1]["messages"]
    assert [m["role"] for m in said] == ["user", "assistant", "user"]
    assert [said[0]["content"], said[2]["content"]] == [QUESTION, "And of a directory?"]
    assert "renames.\n" in said[1]["content"]
    assert "[1]" not in said[1]["content"]


def test_stop_ends_the_request_and_keeps_what_is_there(page: Page, backend: Backend) -> None:
    backend.pause_after = 2
    ask(page)
    expect(page.locator(".prose")).to_contain_text("beyond renames.")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".answer")).to_contain_text("Stopped.")
    expect(page.locator(".prose")).to_contain_text("beyond renames.")
    assert backend.aborted.wait(10)
    backend.go()
    ask_and_wait(page, "Again?")
    assert [m["content"] for m in backend.chats[-1]["messages"]] == ["Again?"]


def test_a_broken_stream_says_so_and_can_be_asked_again(page: Page, backend: Backend) -> None:
    backend.scripts[QUESTION] = Script(["Half an ans"], breaks="the language model's answer broke off: connection lost")
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("broke off")
    expect(page.locator(".prose")).to_contain_text("Half an ans")
    backend.scripts.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".verdict")).to_be_visible()


def test_a_refusal_is_shown_in_the_servers_words_with_when_to_come_back(page: Page, backend: Backend) -> None:
    busy = ApiError(503, "overloaded", "the service has too much to do", retry_after=7)
    backend.failures["/v1/chat/completions"] = busy
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("the service has too much to do – try again in 7 s")


def test_thumbs_are_recorded_with_a_comment(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    (answer,) = backend.answers
    page.get_by_role("button", name="Not useful").click()
    expect(page.get_by_role("button", name="Not useful")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Comment").fill("It is slow.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    assert backend.feedback == [
        {"answer_id": answer, "kind": "down"},
        {"answer_id": answer, "kind": "down", "comment": "It is slow."},
    ]


def chips(page: Page, view: str) -> list[str | None]:
    return [chip.get_attribute("aria-label") for chip in page.locator(f"{view} button.cite").all()]


def test_a_reload_keeps_the_conversation_its_citations_and_ids(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    (answer,) = backend.answers
    before, text = chips(page, "#view-ask"), page.locator(".prose").inner_text()
    assert before == ["Source 1: git-log(1), OPTIONS, --follow", "Source 2: git-stash(1), DESCRIPTION"]
    page.reload()
    expect(page.locator("#view-ask .verdict")).to_be_visible()
    assert (chips(page, "#view-ask"), page.locator(".prose").inner_text()) == (before, text)
    page.get_by_role("button", name="Useful", exact=True).click()
    expect(page.get_by_label("Comment")).to_be_visible()
    assert backend.feedback[0]["answer_id"] == answer
    assert len(backend.chats) == 1


def test_history_opens_an_answer_as_it_was_and_deletes_it(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    before = chips(page, "#view-ask")
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name=QUESTION).click()
    expect(page.locator("#view-history .verdict")).to_be_visible()
    page.reload()
    expect(page.locator("#view-history .verdict")).to_be_visible()
    assert chips(page, "#view-history") == before
    page.get_by_role("link", name="All answers").click()
    page.get_by_role("button", name=f"Delete: {QUESTION}").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("Nothing asked yet.")).to_be_visible()
    assert backend.answers == {}


def test_a_deleted_document_leaves_the_passage_as_it_was(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    del backend.documents["git/git-log"]
    page.locator("button.cite").first.click()
    panel = page.get_by_role("complementary")
    expect(panel.get_by_role("alert")).to_contain_text("no longer in the index")
    expect(panel.locator("mark")).to_have_text(QUOTE)


def test_lists_and_what_code_rests_on(page: Page, backend: Backend) -> None:
    text = "Two ways:\n- git log [1]\n- git blame\n\n```\ngit log\n```\n[1]"
    backend.scripts[QUESTION] = Script([text], [("[1]", 1, QUOTE), ("[1]", 1, QUOTE)])
    ask_and_wait(page)
    expect(page.locator(".prose .item")).to_have_text(["git log1", "git blame"])
    expect(page.locator(".prose .cites button.cite")).to_have_count(1)


def test_without_a_reranker_there_is_no_such_stage(page: Page, backend: Backend) -> None:
    backend.no_stages = ("dense", "reranked")
    ask_and_wait(page)
    page.get_by_text("How this was found").click()
    expect(page.get_by_role("region", name="Dense", exact=True)).to_contain_text("nothing")
    expect(page.get_by_role("region", name="Reranked", exact=True)).to_have_count(0)


def test_a_reload_while_the_service_is_away_does_not_forget_the_conversation(page: Page, backend: Backend) -> None:
    ask_and_wait(page)
    (answer,) = backend.answers
    backend.failures[f"/v1/answers/{answer}"] = ApiError(503, "overloaded", "the service is starting")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("the service is starting")
    backend.failures.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#view-ask .verdict")).to_be_visible()
