// The document beside the answer, open at a passage, with its neighbours a click away.
import { call } from "./api.js";
import { hideCard, withQuote } from "./card.js";
import { byId, h, iconButton, problem } from "./dom.js";
import { count, place } from "./text.js";

const AROUND = 3; // chunks before the passage at first
const PAGE = 12;
let open = null; // what is shown; a later click wins over a slower answer

/** Open `target` ({documentId, chunkId, chunk_index?, quote?, title, …}); closing gives focus back to `opener`. */
export async function openDocument(target, opener = null) {
  const panel = byId("panel");
  const mine = (open = { target, opener });
  const title = h("h2", { id: "panel-title", tabindex: "-1" }, target.title ?? target.documentId);
  const body = h("div", { class: "chunks" }, h("p", { class: "faint" }, "Opening…"));
  const meta = h("p", { class: "faint" }, ...origin(target));
  panel.replaceChildren(h("header", {}, h("div", {}, title, meta), iconButton("close", "Close the document", closePanel)), body);
  panel.hidden = false;
  document.body.classList.add("with-panel");
  title.focus({ preventScroll: true });
  try {
    const reader = await startingAt(target);
    if (open !== mine) return;
    title.textContent = reader.document.title || target.documentId;
    meta.append(` · ${count(reader.document.chunks, "passage")}`);
    body.replaceChildren(...reader.elements());
    (body.querySelector("mark") ?? body.querySelector(".here"))?.scrollIntoView({ block: "center" });
  } catch (error) {
    if (open !== mine) return;
    const kept = target.text && h("div", { class: "chunk here" }, h("p", { class: "passage" }, ...withQuote(target.text, target.quote)));
    const words = error.status === 404 ? new Error("This document is no longer in the index. This is the passage as it was:") : error;
    body.replaceChildren(problem(words), kept ?? "");
  }
}

/** Returns whether there was one to close. */
export function closePanel() {
  if (!open) return false;
  const { opener } = open;
  open = null;
  byId("panel").hidden = true;
  document.body.classList.remove("with-panel");
  if (opener?.isConnected) opener.focus();
  hideCard(); // focus is back where it was; nobody asked for the card again
  return true;
}

function origin({ source, license, url, documentId }) {
  const safe = /^https?:\/\//.test(url ?? "");
  const where = safe ? h("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, url) : documentId;
  return [source, license, where].filter(Boolean).flatMap((piece, index) => (index ? [" · ", piece] : [piece]));
}

const page = (id, from, limit) => call(`/v1/chunks?${new URLSearchParams({ document_id: id, from, limit })}`);

async function startingAt(target) {
  const index = target.chunk_index ?? (await indexOf(target));
  const from = Math.max(0, (index ?? 0) - AROUND);
  return new Reader(target, from, await page(target.documentId, from, PAGE));
}

/** A citation names its chunk, not the chunk's place: look through the document for it. */
async function indexOf({ documentId, chunkId }) {
  if (!chunkId) return 0;
  for (let from = 0; from !== null; ) {
    const { data, next } = await page(documentId, from, 200);
    const found = data.find((chunk) => chunk.id === chunkId);
    if (found) return found.chunk_index;
    from = next;
  }
  return null;
}

class Reader {
  constructor(target, from, first) {
    this.target = target;
    this.from = from;
    this.next = first.next;
    this.document = first.document;
    this.list = h("div", {});
    this.earlier = h("button", { type: "button", class: "quiet", onclick: () => this.before() }, "Earlier passages");
    this.later = h("button", { type: "button", class: "quiet", onclick: () => this.after() }, "Later passages");
    this.gone = !first.data.some((chunk) => chunk.id === target.chunkId) && Boolean(target.chunkId);
    this.list.append(...first.data.map((chunk) => this.chunk(chunk)));
    this.update();
  }

  elements() {
    const { target } = this;
    const changed = this.gone && [
      h("p", { class: "notice" }, "The document has changed since. The passage as it was:"),
      h("div", { class: "chunk here" }, h("p", { class: "passage" }, ...withQuote(target.text ?? target.quote ?? "", target.quote))),
      h("p", { class: "notice" }, "The document today:"),
    ];
    return [...(changed || []), this.earlier, this.list, this.later];
  }

  async before() {
    const from = Math.max(0, this.from - PAGE);
    await this.load(this.earlier, async () => {
      const { data } = await page(this.target.documentId, from, this.from - from);
      const [first, top] = [this.list.firstElementChild, this.list.firstElementChild?.getBoundingClientRect().top];
      this.list.prepend(...data.map((chunk) => this.chunk(chunk)));
      this.from = from;
      if (first) this.list.parentElement.scrollTop += first.getBoundingClientRect().top - top;
    });
  }

  async after() {
    await this.load(this.later, async () => {
      const { data, next } = await page(this.target.documentId, this.next, PAGE);
      this.list.append(...data.map((chunk) => this.chunk(chunk)));
      this.next = next;
    });
  }

  async load(button, work) {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      button.after(problem(error));
    }
    button.disabled = false;
    this.update();
  }

  update() {
    this.earlier.hidden = this.from === 0;
    this.later.hidden = this.next === null;
  }

  chunk({ id, heading, text }) {
    const here = id === this.target.chunkId;
    const path = place({ title: null, heading }).filter((step) => step !== this.document.title);
    return h(
      "div",
      { class: here ? "chunk here" : "chunk", "data-chunk": id, "aria-current": here ? "true" : false },
      path.length > 0 && h("p", { class: "path" }, path.join(" › ")),
      h("p", { class: "passage" }, ...(here ? withQuote(text, this.target.quote) : [text])),
    );
  }
}
