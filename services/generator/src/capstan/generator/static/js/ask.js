// The conversation: questions, streamed answers, follow-ups. It survives a reload by the ids of its answers.
import { AnswerView } from "./answer.js";
import { call } from "./api.js";
import { armSelect, arms } from "./arms.js";
import { Composer, streamInto } from "./chat.js";
import { h, problem } from "./dom.js";
import { stored } from "./history.js";
import { closePanel } from "./panel.js";
import { sentence } from "./status.js";
import { withoutMarkers } from "./text.js";

const EXAMPLES = [
  "How do I show the commits that changed a file in git?",
  "Which system call creates a pipe?",
  "How do I create a VPC from the command line?",
  "How do I copy a PostgreSQL table to a file?",
];
const KEPT = "capstan.conversation";
const HISTORY_TURNS = 6;

export function askView(box) {
  let turns = []; // {question, view}
  const list = h("div", { class: "turns" });
  const size = h("p", { class: "faint" }, "Answers come with the passages they rest on.");
  const hello = h(
    "div",
    { class: "hello" },
    h("h1", {}, "Ask the documents"),
    size,
    h("div", { class: "examples", role: "group", "aria-label": "Examples" }, ...EXAMPLES.map((text) => h("button", { type: "button", onclick: () => composer.submit(text) }, text))),
  );
  const choice = h("span", { class: "arm" });
  const composer = new Composer({ label: "Your question", placeholder: "Ask a question…", ask, extra: choice });
  const fresh = h("button", { type: "button", class: "quiet", onclick: restart }, "New conversation");
  const hint = h("p", { class: "hint faint" }, h("span", {}, h("kbd", {}, "/"), " to type · ", h("kbd", {}, "Shift"), "+", h("kbd", {}, "Enter"), " for a new line · ", h("kbd", {}, "Esc"), " closes"), fresh);
  box.append(hello, list, h("div", { class: "dock" }, composer.form, hint));
  window.addEventListener("index", (event) => (size.textContent = `${sentence(event.detail)} Answers come with the passages they rest on.`));
  window.addEventListener("key", fill);
  fill();
  restore();
  update();

  async function fill() {
    const list = await arms().catch(() => []);
    if (list.length > 1) choice.replaceChildren(armSelect("Answer with", list, "model"));
  }

  function update() {
    hello.hidden = turns.length > 0;
    fresh.hidden = turns.length === 0;
    composer.field.placeholder = turns.length ? "Ask a follow-up…" : "Ask a question…";
  }

  function keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(turns.map(({ view }) => view.id).filter(Boolean)));
  }

  function restart() {
    composer.stop();
    closePanel();
    turns = [];
    list.replaceChildren();
    update();
    keep();
    composer.field.focus();
  }

  function add(question, view) {
    const turn = { question, view };
    turns.push(turn);
    turn.element = h("article", { class: "turn", "aria-label": question }, h("h2", { class: "question" }, question), view.element);
    list.append(turn.element);
    return turn;
  }

  function messages(upTo, question) {
    const before = turns.slice(0, upTo).filter(({ view }) => view.id).slice(-HISTORY_TURNS);
    const said = before.flatMap(({ question, view }) => [
      { role: "user", content: question },
      { role: "assistant", content: withoutMarkers(view.text) },
    ]);
    return [...said, { role: "user", content: question }];
  }

  async function ask(question, signal) {
    const asked = messages(turns.length, question);
    const view = new AnswerView({ retry: () => composer.submit(question) });
    const mine = add(question, view);
    update();
    mine.element.scrollIntoView({ block: "start" });
    const model = choice.querySelector("select")?.value ?? "docs";
    await streamInto(view, { model, messages: asked, signal });
    if (turns.includes(mine)) keep();
  }

  async function restore() {
    const ids = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    for (const id of ids) {
      try {
        const answer = stored(await call(`/v1/answers/${encodeURIComponent(id)}`));
        const view = new AnswerView({ retry: () => composer.submit(answer.question) });
        add(answer.question, view);
        view.asked = answer.question;
        view.finish({ ...answer, quiet: true });
      } catch (error) {
        if (error.status === 404) continue; // deleted since
        list.append(problem(error, () => location.reload()));
        return;
      }
    }
    update();
    keep();
  }

  return { show: () => matchMedia("(pointer: fine)").matches && composer.field.focus({ preventScroll: true }) };
}
