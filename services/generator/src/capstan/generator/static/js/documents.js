// Documents: upload, list, filter, look into, delete.
import { call, pathOf } from "./api.js";
import { confirmed, h, icon, iconButton, problem, toast } from "./dom.js";
import { openDocument } from "./panel.js";
import { look, sentence } from "./status.js";
import { count } from "./text.js";
import { ACCEPTED, Uploads } from "./uploads.js";

const PAGE = 50;

export function documentsView(box) {
  let listing = null;
  const uploads = new Uploads(() => refresh());
  const state = h("p", { class: "faint" });
  const picker = h("input", { type: "file", id: "files", multiple: true, accept: ACCEPTED, class: "unseen" });
  const zone = h(
    "label",
    { class: "drop", for: "files" },
    icon("file"),
    h("span", {}, h("b", {}, "Choose files"), " or drop them here"),
    h("span", { class: "faint" }, "HTML, Markdown, reStructuredText, text or PDF. The same name again replaces a file. Only your team sees what you upload."),
  );
  const filter = h("input", { type: "search", placeholder: "Filter by title or id", "aria-label": "Filter documents", oninput: () => draw(0) });
  const own = h("input", { type: "checkbox", checked: true, onchange: () => draw(0) });
  const summary = h("p", { class: "faint", role: "status" });
  const table = h("ul", { class: "docs" });
  const pager = h("div", { class: "pager" });
  box.append(
    h("h1", {}, "Documents"), state, picker, zone, uploads.element,
    h("div", { class: "filter" }, filter, h("label", { class: "check" }, own, " only yours")),
    summary, table, pager,
  );

  picker.addEventListener("change", () => {
    uploads.add(picker.files);
    picker.value = "";
  });
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    box.addEventListener(type, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", type === "dragenter" || type === "dragover");
      if (type === "drop") uploads.add(event.dataTransfer.files);
    });
  }
  window.addEventListener("index", (event) => (state.textContent = sentence(event.detail)));
  window.addEventListener("key", () => refresh());

  async function refresh() {
    listing = null;
    await draw(0);
  }

  /** Show matches from number `from` on, and read on in the list until there are enough of them. */
  async function draw(from) {
    const mine = (draw.latest = Symbol("draw"));
    if (listing?.own !== own.checked) listing = new Listing(own.checked);
    const current = listing;
    const wanted = filter.value.trim().toLowerCase();
    try {
      for (;;) {
        const found = current.matching(wanted);
        show(current, found, from);
        if (current.complete || (!wanted && !current.own && found.length > from + PAGE)) return;
        await current.more(wanted || current.own ? 1000 : 2 * PAGE);
        if (draw.latest !== mine || listing !== current) return;
      }
    } catch (error) {
      summary.textContent = "";
      table.replaceChildren(h("li", {}, problem(error, refresh)));
    }
  }

  function show({ complete, rows }, found, from) {
    if (!complete) summary.textContent = filter.value ? `${count(found.length, "match", "matches")} among the first ${count(rows.length, "document")}…` : "";
    else if (found.length) summary.textContent = count(found.length, "document");
    else summary.textContent = own.checked && !filter.value ? "You have uploaded nothing yet." : "No document matches.";
    table.replaceChildren(...found.slice(from, from + PAGE).map(row));
    pager.replaceChildren(
      ...[
        from > 0 && h("button", { type: "button", onclick: () => draw(from - PAGE) }, "Previous"),
        found.length > PAGE && h("span", { class: "faint" }, `${from + 1}–${Math.min(from + PAGE, found.length)}`),
        from + PAGE < found.length && h("button", { type: "button", onclick: () => draw(from + PAGE) }, "Next"),
      ].filter(Boolean),
    );
  }

  function row(document) {
    const { id, title, chunks, embedded, tenant } = document;
    const name = title || id;
    const ours = tenant !== "shared";
    const target = { documentId: id, title: name };
    const button = h("button", { type: "button", class: "doc", onclick: () => openDocument(target, button) }, h("b", {}, name), h("span", { class: "faint" }, id));
    const made = embedded < chunks ? `${embedded}/${chunks} embedded` : count(chunks, "passage");
    const item = h("li", {}, button, h("span", { class: "faint" }, made), ours ? iconButton("trash", `Delete ${name}`, () => remove(document, name)) : h("span", { class: "faint", title: "Part of the shared documents" }, "shared"));
    return item;
  }

  async function remove({ id, chunks }, name) {
    if (!(await confirmed(`Delete “${name}”?`, `${count(chunks, "passage")} will no longer be found. Answers given before keep what they quoted.`, "Delete"))) return;
    try {
      await call(`/v1/documents/${pathOf(id)}`, { method: "DELETE" });
      toast(`“${name}” is deleted.`);
      look();
    } catch (error) {
      toast(`Not deleted: ${error.message}`);
    }
    await refresh();
  }

  return { show: refresh };
}

/** The documents that one can read, or only one's own, as far as they have been asked for. */
class Listing {
  constructor(own) {
    this.own = own;
    this.rows = [];
    this.cursor = "";
  }

  get complete() {
    return this.cursor === null;
  }

  async more(limit) {
    const cursor = this.cursor && `&cursor=${encodeURIComponent(this.cursor)}`;
    const found = await call(`/v1/documents?own=${this.own}&limit=${limit}${cursor}`);
    this.rows.push(...found.data);
    this.cursor = found.next;
    if (this.own && this.complete) this.rows.sort((a, b) => (a.title || a.id).localeCompare(b.title || b.id));
  }

  matching(wanted) {
    return this.rows.filter(({ id, title }) => !wanted || `${title}\n${id}`.toLowerCase().includes(wanted));
  }
}
