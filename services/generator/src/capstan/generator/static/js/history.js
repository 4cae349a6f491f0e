// Answers given before: the same text, citations and ids as when they were streamed.
import { AnswerView } from "./answer.js";
import { call } from "./api.js";
import { confirmed, h, iconButton, problem, toast } from "./dom.js";
import { ago, withoutMarkers } from "./text.js";

/** A stored answer as `AnswerView.finish` takes it. */
export function stored(record) {
  return {
    id: record.id,
    question: record.question,
    text: record.answer,
    annotations: (record.annotations ?? []).map((a) => a.url_citation ?? a),
    details: record.capstan ?? {},
    created: record.created,
    incomplete: record.incomplete ?? false,
  };
}

export function historyView(box) {
  const list = h("ul", { class: "past" });
  const more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => load(more.cursor) }, "Older");
  const state = h("div", {});
  const overview = h("div", {}, h("h1", {}, "History"), state, list, more);
  const single = h("div", { hidden: true });
  box.append(overview, single);

  async function load(cursor = null) {
    more.hidden = true;
    try {
      const { data, next } = await call(`/v1/answers?limit=30${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      if (!cursor) list.replaceChildren();
      list.append(...data.map((record) => row(stored(record))));
      more.cursor = next;
      more.hidden = !next;
      empty();
    } catch (error) {
      state.replaceChildren(problem(error, () => load(cursor)));
    }
  }

  function empty() {
    state.replaceChildren(list.children.length ? "" : h("p", { class: "faint" }, "Nothing asked yet."));
  }

  function row(answer) {
    const item = h(
      "li",
      {},
      h(
        "a",
        { href: `#/history/${encodeURIComponent(answer.id)}` },
        h("b", {}, answer.question),
        h("span", { class: "faint snippet" }, withoutMarkers(answer.text ?? "").replaceAll("`", "").slice(0, 180)),
      ),
      h("span", { class: "faint when" }, answer.created ? ago(answer.created) : ""),
      iconButton("trash", `Delete: ${answer.question}`, async () => {
        if (await remove(answer)) {
          item.remove();
          empty();
        }
      }),
    );
    return item;
  }

  async function remove({ id, question }) {
    if (!(await confirmed("Delete this answer?", `“${question}” and its answer will be gone for good.`, "Delete"))) return false;
    try {
      await call(`/v1/answers/${encodeURIComponent(id)}`, { method: "DELETE" });
      toast("Deleted.");
      return true;
    } catch (error) {
      toast(`Not deleted: ${error.message}`);
      return false;
    }
  }

  async function open(id) {
    single.replaceChildren(h("p", { class: "faint" }, "Opening…"));
    const back = h("a", { class: "back", href: "#/history" }, "‹ All answers");
    try {
      const answer = stored(await call(`/v1/answers/${encodeURIComponent(id)}`));
      const view = new AnswerView();
      view.asked = answer.question;
      view.finish({ ...answer, quiet: true });
      single.replaceChildren(back, h("article", { class: "turn", "aria-label": answer.question }, h("h1", { class: "question" }, answer.question), view.element));
    } catch (error) {
      single.replaceChildren(back, problem(error.status === 404 ? new Error("This answer has been deleted.") : error));
    }
  }

  window.addEventListener("key", () => load());
  return {
    show(id) {
      overview.hidden = Boolean(id);
      single.hidden = !id;
      return id ? open(id) : load();
    },
  };
}
