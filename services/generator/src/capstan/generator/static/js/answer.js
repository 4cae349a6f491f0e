// One answer on the page: streams in, then shows its citations, sources, doubts and how it was found.
import { citationTarget } from "./card.js";
import { announce, h, icon, iconButton, problem, toast } from "./dom.js";
import { thumbs } from "./feedback.js";
import { openDocument } from "./panel.js";
import { renderProse } from "./prose.js";
import { stagesView, timingsView } from "./stages.js";
import { asSentence, count, milliseconds, place, score, withoutMarkers } from "./text.js";

const MODES = {
  generated: ["Generated", "Written by the language model from the passages below"],
  extractive: ["Quoted", "The language model was not used: these are the passages' own words"],
  abstained: ["No answer", "The documents hold no evidence that is good enough"],
};

export class AnswerView {
  constructor({ retry = null } = {}) {
    this.retry = retry;
    this.text = "";
    this.id = null;
    this.annotations = null;
    this.details = {};
    this.stages = null;
    this.prose = h("div", { class: "prose" });
    this.status = h("p", { class: "status" }, h("span", { class: "dots", "aria-hidden": "true" }), "Searching the documents…");
    this.after = h("div", { class: "after" });
    this.element = h("div", { class: "answer", "aria-busy": "true" }, this.status, this.prose, this.after);
    this.spoken = 0;
  }

  /** What the search found, before the first word. */
  found({ stages, question }) {
    this.stages = stages;
    this.standalone = question;
    const last = ["reranked", "fused", "dense", "bm25"].map((stage) => stages?.[stage]).find((found) => found?.length) ?? [];
    this.say(last.length ? `Reading ${count(last.length, "passage")}…` : "Writing…");
  }

  /** The next piece of text. */
  append(piece) {
    if (!piece) return;
    this.text += piece;
    this.status.hidden = true;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.element.getAttribute("aria-busy")) this.draw();
    });
    this.speak();
  }

  /** The answer is whole. `details` is the object `capstan` of the last chunk. */
  finish({ id, text, annotations, details, incomplete = false, quiet = false }) {
    this.id = id;
    this.text = text ?? this.text;
    this.annotations = annotations ?? [];
    this.details = details ?? {};
    this.incomplete = incomplete;
    this.stages = this.details.stages ?? this.stages;
    this.settle();
    this.draw();
    this.after.replaceChildren(...this.afterwards());
    if (!quiet) this.readOut(this.text.length, ` Answer complete, ${count(new Set(this.annotations.map((a) => a.id)).size, "source")} cited.`);
  }

  /** The user stopped it: what is there stays. */
  stopped() {
    this.settle();
    this.draw();
    this.after.replaceChildren(h("p", { class: "note" }, "Stopped. Citations are bound when an answer is complete."));
  }

  fail(error) {
    this.settle();
    this.draw();
    this.after.replaceChildren(problem(error, this.retry));
  }

  settle() {
    this.element.removeAttribute("aria-busy");
    this.status.hidden = true;
  }

  say(text) {
    this.status.lastChild.textContent = text;
  }

  /** Whole sentences to screen readers, as they come. */
  speak() {
    const end = Math.max(...[". ", "! ", "? ", "\n"].map((mark) => this.text.lastIndexOf(mark)));
    if (end >= this.spoken) this.readOut(end + 1);
  }

  readOut(end, more = "") {
    announce(withoutMarkers(this.text.slice(this.spoken, end)).replaceAll("`", "") + more);
    this.spoken = end;
  }

  draw() {
    renderProse(this.prose, this.text, {
      annotations: this.annotations,
      sentences: this.details.sentences ?? [],
      chip: (number, annotation) => this.chip(number, annotation),
    });
  }

  source(number) {
    return (this.details.sources ?? []).find((source) => source.id === number);
  }

  chip(number, annotation) {
    if (!annotation) return h("span", { class: "cite pending" }, String(number));
    const source = this.source(number) ?? {};
    const name = place({ title: source.title ?? annotation.title, heading: source.heading }).join(", ");
    const target = {
      number,
      documentId: annotation.document_id,
      chunkId: annotation.chunk_id,
      quote: annotation.quote,
      support: annotation.support,
      ...source,
      title: source.title ?? annotation.title,
    };
    const chip = h(
      "button",
      { type: "button", class: "cite", "data-cite": number, "aria-label": `Source ${number}: ${name}`, onclick: () => openDocument(target, chip) },
      String(number),
    );
    citationTarget(chip, target);
    return chip;
  }

  afterwards() {
    const { details } = this;
    return [this.verdict(), this.incomplete && h("p", { class: "note" }, "This answer was stopped before its end."), details.note && h("p", { class: "note" }, asSentence(details.note)),
      details.rerank_note && h("p", { class: "note" }, asSentence(details.rerank_note)),
      ...this.omissions(),
      this.sources(), this.suggestions(), this.foot(), this.how()].filter(Boolean);
  }

  /** What was left out, and why. */
  omissions() {
    const { sentences = [], withheld = 0 } = this.details;
    const silent = sentences.filter((sentence) => sentence.start === null).length;
    return [
      silent > 0 && `${count(silent, "sentence")} of the model's not shown: no passage supports ${silent === 1 ? "it" : "them"}.`,
      withheld > 0 && `${count(withheld, "passage")} not used: ${withheld === 1 ? "it reads" : "they read"} like instructions to the model.`,
    ].filter(Boolean).map((text) => h("p", { class: "note" }, text));
  }

  verdict() {
    const { details } = this;
    const shown = (details.sentences ?? []).filter((sentence) => sentence.start !== null);
    const [word, why] = MODES[details.mode] ?? ["Answer", ""];
    const facts = [h("span", { class: `mode ${details.mode ?? ""}`, title: why }, word)];
    const all = shown.length;
    const held = shown.filter((sentence) => sentence.supported).length;
    if (all) facts.push(h("span", {}, held === all ? `every sentence supported (${all})` : `${held} of ${count(all, "sentence")} supported`));
    else if (typeof details.grounded === "number") facts.push(h("span", {}, `${Math.round(details.grounded * 100)} % of the sentences supported`));
    if (details.arm && details.arm !== "default") facts.push(h("span", {}, `arm ${details.arm}`));
    const spent = details.timings_ms ?? {};
    const total = (spent.evidence ?? 0) + (spent.answer ?? 0);
    if (total) facts.push(h("span", {}, milliseconds(spent.total ?? total)));
    return h("p", { class: "verdict" }, ...facts);
  }

  sources() {
    const { sources = [], mode } = this.details;
    if (!sources.length) return null;
    const cited = sources.filter((source) => source.cited);
    const shown = cited.length ? cited : sources;
    const title = cited.length ? "Sources" : mode === "abstained" ? "The nearest passages" : "Passages read";
    const rest = cited.length ? sources.length - cited.length : 0;
    return h(
      "section",
      { class: "sources", "aria-label": title },
      h("h3", {}, title, rest > 0 && h("span", { class: "faint" }, ` · ${rest} more read, not cited`)),
      h("ol", {}, ...shown.map((source) => h("li", {}, this.sourceButton(source)))),
    );
  }

  /** Where to look instead, after an answer that could not be given. */
  suggestions() {
    const { suggestions = [], sources = [] } = this.details;
    if (!suggestions.length || sources.length) return null;
    const entries = suggestions.map((found) => {
      const target = { ...found, documentId: found.document_id, chunkId: found.chunk_id };
      const button = h("button", { type: "button", class: "quiet", onclick: () => openDocument(target, button) }, place(found).join(" › "));
      return h("li", {}, button);
    });
    return h("section", { class: "sources", "aria-label": "Nearest documents" }, h("h3", {}, "Nearest documents"), h("ul", {}, ...entries));
  }

  sourceButton(source) {
    const { quote, chunk_id: chunkId = source.chunk_id } = this.annotations.find((a) => a.id === source.id) ?? {};
    const target = { ...source, number: source.id, documentId: source.document_id, chunkId, quote };
    const [title, ...path] = place(source);
    const button = h(
      "button",
      { type: "button", class: "source", onclick: () => openDocument(target, button) },
      h("span", { class: "number" }, String(source.id)),
      h("span", { class: "where" }, h("b", {}, title), path.length > 0 && h("span", { class: "path" }, path.join(" › "))),
      h("span", { class: "faint meta" }, [source.source, source.license, typeof source.relevance === "number" && `relevance ${score(source.relevance)}`].filter(Boolean).join(" · ")),
    );
    citationTarget(button, target);
    return button;
  }

  foot() {
    const copy = iconButton("copy", "Copy the answer", async () => {
      await navigator.clipboard?.writeText(this.plain());
      toast(navigator.clipboard ? "Copied, with its sources." : "Copying needs https or localhost.");
    });
    const again = this.retry && iconButton("redo", "Ask again", this.retry);
    return h("div", { class: "foot" }, this.id && thumbs({ answer_id: this.id }), copy, again);
  }

  plain() {
    const cited = (this.details.sources ?? []).filter((source) => source.cited);
    return [this.text, "", ...cited.map((s) => `[${s.id}] ${place(s).join(" > ")}${s.url ? ` <${s.url}>` : ""}`)].join("\n").trim();
  }

  how() {
    if (!this.stages && !this.details.timings_ms) return null;
    const used = new Set((this.details.sources ?? []).map((s) => s.chunk_id));
    const body = h("div", { class: "how-body" });
    const box = h("details", { class: "how" }, h("summary", {}, icon("search"), "How this was found"), body);
    box.addEventListener("toggle", () => {
      if (!box.open || body.hasChildNodes()) return;
      body.append(...[
        this.standalone && this.standalone !== this.asked && h("p", { class: "note" }, "Searched for: ", h("q", {}, this.standalone)),
        this.stages && stagesView(this.stages, used),
        timingsView(this.details.timings_ms),
      ].filter(Boolean));
    });
    return box;
  }
}
