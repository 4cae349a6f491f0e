// One streamed question into one answer on the page, and the box where questions are typed.
import { chat } from "./api.js";
import { h, icon } from "./dom.js";

/** Ask, and let `view` (an AnswerView) show what comes. Never throws: what fails is shown. */
export async function streamInto(view, { model, messages, signal }) {
  let id = null;
  let annotations = [];
  let details = {};
  view.asked = messages.at(-1).content;
  try {
    for await (const chunk of chat({ model, messages, capstan: { trace: true } }, signal)) {
      const choice = chunk.choices?.[0];
      id ??= chunk.id;
      if (!choice && chunk.capstan?.stages) view.found(chunk.capstan);
      if (!choice) continue;
      view.append(choice.delta?.content);
      if (choice.delta?.annotations) annotations = choice.delta.annotations.map((a) => a.url_citation);
      if (chunk.capstan) details = chunk.capstan;
    }
    view.finish({ id, annotations, details });
    return true;
  } catch (error) {
    if (error.name === "AbortError") view.stopped();
    else view.fail(error);
    return false;
  }
}

/**
 * A question box: Enter asks, Shift+Enter starts a line, the button stops what runs.
 * `ask(text, signal)` resolves when the answer has ended.
 */
export class Composer {
  constructor({ label, placeholder, ask, extra = null }) {
    this.field = h("textarea", { rows: 1, maxlength: 4000, "aria-label": label, placeholder, "data-question": true, oninput: () => this.grow() });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.button = h("button", { class: "send" });
    this.form = h(
      "form",
      { class: "composer", onsubmit: (event) => { event.preventDefault(); if (this.running) this.running.abort(); else this.submit(); } },
      this.field,
      extra,
      this.button,
    );
    this.ask = ask;
    this.idle();
  }

  async submit(text = this.field.value) {
    const question = text.trim();
    if (!question || this.running) return;
    this.field.value = "";
    this.grow();
    this.running = new AbortController();
    this.button.replaceChildren(icon("stop"));
    this.label("Stop");
    try {
      await this.ask(question, this.running.signal);
    } finally {
      this.idle();
    }
  }

  stop() {
    this.running?.abort();
  }

  idle() {
    this.running = null;
    this.button.replaceChildren(icon("send"));
    this.label("Ask");
  }

  label(text) {
    this.button.setAttribute("aria-label", text);
    this.button.title = text;
  }

  grow() {
    this.field.style.setProperty("height", "auto");
    this.field.style.setProperty("height", `${Math.min(this.field.scrollHeight, 200)}px`);
  }
}
