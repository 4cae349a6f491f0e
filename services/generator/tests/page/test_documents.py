"""Uploading, listing, looking into and deleting documents."""

from page_backend import Backend
from playwright.sync_api import FilePayload, Page, expect

from capstan.common.errors import ApiError

HANDBOOK: FilePayload = {"name": "handbook.md", "mimeType": "text/markdown", "buffer": b"# Ships\n\nA capstan turns."}
PROGRAM: FilePayload = {"name": "setup.exe", "mimeType": "application/x-msdownload", "buffer": b"MZ"}
EMPTY: FilePayload = {"name": "scan.pdf", "mimeType": "application/pdf", "buffer": b""}


def documents(page: Page) -> None:
    page.get_by_role("link", name="Documents").first.click()
    expect(page.get_by_role("button", name="Our notes files/notes.md")).to_be_visible()


def test_several_files_are_uploaded_and_each_one_tells_how_it_went(page: Page, backend: Backend) -> None:
    backend.unembedded["files/handbook.md"] = 1
    documents(page)
    page.get_by_label("Choose files").set_input_files([HANDBOOK, PROGRAM, EMPTY])
    uploads = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(uploads.filter(has_text="setup.exe")).to_contain_text("cannot be read: send html")
    expect(uploads.filter(has_text="scan.pdf")).to_contain_text("holds no text")
    expect(uploads.filter(has_text="handbook.md")).to_contain_text("ready · added, 2 passages")
    expect(page.get_by_role("button", name="handbook.md files/handbook.md")).to_be_visible()


def test_vectors_are_followed_until_all_are_there(page: Page, backend: Backend) -> None:
    backend.stuck.add("files/handbook.md")
    documents(page)
    page.get_by_label("Choose files").set_input_files([HANDBOOK])
    upload = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    expect(upload).to_contain_text("searchable · embedded 0/2")
    backend.stuck.clear()
    expect(upload).to_contain_text("ready · added, 2 passages")


def test_the_same_name_again_replaces_the_file(page: Page, backend: Backend) -> None:
    documents(page)
    for words in ("added", "replaced"):
        page.get_by_label("Choose files").set_input_files([HANDBOOK])
        expect(page.get_by_role("list", name="Uploads").get_by_role("listitem").first).to_contain_text(words)
    expect(page.get_by_role("button", name="handbook.md files/handbook.md")).to_have_count(1)


def test_a_failed_upload_can_be_tried_again(page: Page, backend: Backend) -> None:
    backend.failures["/v1/files"] = ApiError(503, "extraction_busy", "too many files are waiting to be read")
    documents(page)
    page.get_by_label("Choose files").set_input_files([HANDBOOK])
    expect(page.locator(".uploads .failed")).to_contain_text("too many files are waiting")
    backend.failures.clear()
    page.get_by_role("button", name="Upload handbook.md again").click()
    expect(page.locator(".uploads .ready")).to_be_visible()


def test_files_can_be_dropped(page: Page, backend: Backend) -> None:
    documents(page)
    transfer = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.items.add(new File(['Dropped text.'], 'dropped.txt')); return t }"
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator(".uploads .ready")).to_contain_text("dropped.txt")
    assert "files/dropped.txt" in backend.documents


def test_a_document_is_deleted_only_when_that_is_confirmed(page: Page, backend: Backend) -> None:
    documents(page)
    page.get_by_role("button", name="Delete Our notes").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 passage will no longer be found")
    page.keyboard.press("Escape")
    assert "files/notes.md" in backend.documents
    page.get_by_role("button", name="Delete Our notes").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("You have uploaded nothing yet.")).to_be_visible()
    assert "files/notes.md" not in backend.documents


def test_shared_documents_are_listed_and_filtered_but_not_deleted(page: Page) -> None:
    documents(page)
    page.get_by_label("only yours").uncheck()
    expect(page.locator(".docs li")).to_have_count(3)
    page.get_by_label("Filter documents").fill("stash")
    expect(page.locator(".docs li")).to_have_count(1)
    expect(page.locator(".docs li")).to_contain_text("shared")
    expect(page.get_by_role("button", name="Delete git-stash(1)")).to_have_count(0)


def test_a_long_list_is_shown_page_by_page(page: Page, backend: Backend) -> None:
    for n in range(120):
        backend.documents[f"files/{n:03}.md"] = backend.documents["files/notes.md"] | {"id": f"files/{n:03}.md"}
    documents_link = page.get_by_role("link", name="Documents").first
    documents_link.click()
    expect(page.locator(".docs li")).to_have_count(50)
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("51–100")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".docs li")).to_have_count(21)


def test_a_filter_looks_through_all_documents(page: Page, backend: Backend) -> None:
    for n in range(1200):
        backend.documents[f"man/{n}"] = backend.documents["git/git-stash"] | {"id": f"man/{n}", "title": f"page {n}"}
    documents(page)
    page.get_by_label("only yours").uncheck()
    expect(page.locator(".docs li")).to_have_count(50)
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("101–150")
    page.get_by_label("Filter documents").fill("page 1199")
    expect(page.locator(".docs li")).to_have_count(1)
    expect(page.get_by_text("1 document", exact=True)).to_be_visible()


def test_a_document_opens_beside_the_list(page: Page) -> None:
    documents(page)
    page.get_by_role("button", name="Our notes files/notes.md").click()
    expect(page.get_by_role("complementary")).to_contain_text("We rebase before we merge.")
    page.get_by_role("button", name="Close the document").click()
    expect(page.get_by_role("complementary")).to_be_hidden()


def test_the_index_tells_how_far_it_is(page: Page, backend: Backend) -> None:
    expect(page.locator("#index")).to_have_text("72 passages")
    backend.pending = 18
    documents(page)
    page.reload()
    expect(page.locator("#index")).to_have_text("75 % embedded")
    expect(page.locator("#view-documents")).to_contain_text("about 2 min left")
