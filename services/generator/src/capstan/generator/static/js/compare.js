// The same question to two arms, side by side, both streaming.
import { AnswerView } from "./answer.js";
import { armSelect, arms } from "./arms.js";
import { Composer, streamInto } from "./chat.js";
import { h, problem } from "./dom.js";

export function compareView(box) {
  const columns = [column("A"), column("B")];
  const composer = new Composer({ label: "Question for both", placeholder: "One question, two answers…", ask });
  const trouble = h("div", {});
  const pair = h("div", { class: "pair" }, ...columns.map((c) => c.element));
  box.append(
    h("h1", {}, "Compare two arms"),
    h("p", { class: "faint" }, "An arm is a way to answer: how passages are found, ranked and given to the model. Both get the same question at the same time; a thumb for the better one counts."),
    composer.form,
    trouble,
    pair,
  );
  window.addEventListener("key", fill);
  fill();

  async function fill() {
    try {
      const list = await arms();
      trouble.replaceChildren();
      columns.forEach((c, index) => c.choose(list, list[Math.min(index, list.length - 1)].model));
    } catch (error) {
      trouble.replaceChildren(problem(error, fill));
    }
  }

  async function ask(question, signal) {
    await Promise.all(columns.map((c) => c.ask(question, signal)));
  }

  return { show: () => composer.field.focus({ preventScroll: true }) };
}

function column(name) {
  const picker = h("div", { class: "picker" }, h("span", { class: "number" }, name));
  const about = h("p", { class: "faint" });
  const answer = h("div", {});
  let known = [];
  return {
    element: h("section", { class: "arm-column", "aria-label": `Arm ${name}` }, picker, about, answer),
    choose(list, chosen) {
      known = list;
      const select = armSelect(`Arm ${name}`, list, "model", chosen);
      const explain = () => (about.textContent = known.find((arm) => arm.model === select.value)?.description ?? "");
      select.addEventListener("change", explain);
      picker.querySelector("select")?.remove();
      picker.append(select);
      explain();
    },
    ask(question, signal) {
      const view = new AnswerView();
      answer.replaceChildren(h("h2", { class: "question" }, question), view.element);
      const model = picker.querySelector("select")?.value ?? "docs";
      return streamInto(view, { model, messages: [{ role: "user", content: question }], signal });
    },
  };
}
