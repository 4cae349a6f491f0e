"""The API key: taken from the address, asked for, refused, remembered."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from page_backend import KEY
from playwright.sync_api import Page, expect

Open = Callable[..., AbstractContextManager[Page]]
STORED = "() => [sessionStorage.getItem('capstan.key'), localStorage.getItem('capstan.key')]"


def test_the_key_leaves_the_address_and_stays_in_the_session(open_page: Open) -> None:
    with open_page() as page:
        expect(page.locator("#index")).to_be_visible()
        assert KEY not in page.url
        assert page.evaluate(STORED) == [KEY, None]
        page.reload()
        expect(page.locator("#index")).to_be_visible()


def test_without_a_key_the_page_asks_for_one(open_page: Open) -> None:
    with open_page(None) as page:
        dialog = page.get_by_role("dialog", name="Your API key")
        expect(dialog).to_contain_text(".capstan/api-key")
        expect(dialog.get_by_label("API key")).to_be_focused()
        dialog.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#index")).to_have_text("72 passages")
        expect(page.get_by_label("Answer with")).to_be_visible()
        assert page.evaluate(STORED) == [KEY, None]


def test_a_wrong_key_is_called_that_and_another_one_can_be_given(open_page: Open) -> None:
    with open_page("demo.wrong") as page:
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("alert")).to_have_text(
            "This key was not accepted. Check that it is whole and still valid."
        )
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_label("Remember it on this device").check()
        dialog.get_by_role("button", name="Use this key").click()
        expect(page.locator("#index")).to_have_text("72 passages")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate(STORED) == [None, KEY]


def test_the_key_can_be_changed(open_page: Open) -> None:
    with open_page() as page:
        page.get_by_role("button", name="API key").click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="API key").click()
        page.get_by_role("textbox", name="API key").fill("demo.other")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not accepted")
