// Blind search: two arms' results mixed by team draft; which one is better shows in what gets clicked.
import { call } from "./api.js";
import { armSelect, arms } from "./arms.js";
import { h, icon, problem, toast } from "./dom.js";
import { openDocument } from "./panel.js";
import { reportView } from "./report.js";
import { count, place, splitByTerms, terms } from "./text.js";

const LIMIT = 10;

export function searchView(box) {
  const field = h("input", { type: "search", "aria-label": "Search for", placeholder: "Search the passages…", maxlength: 1000, "data-question": true });
  const picks = h("span", { class: "picks" });
  const results = h("div", { class: "results", "aria-live": "polite" });
  const form = h("form", { class: "composer", role: "search", onsubmit: search }, field, h("button", { class: "send", "aria-label": "Search", title: "Search" }, icon("search")));
  box.append(
    h("h1", {}, "Search"),
    h("p", { class: "faint" }, "Two arms search, their results are mixed, and you do not see whose is whose. Open what helps you: every click is a vote."),
    form,
    h("p", { class: "faint" }, picks),
    results,
    reportView(),
  );
  let chosen = null;
  window.addEventListener("key", fill);
  fill();

  async function fill() {
    try {
      const list = await arms();
      chosen = [list[0], list[Math.min(1, list.length - 1)]].map((arm, index) => armSelect(`Arm ${"AB"[index]}`, list, "name", arm.name));
      picks.replaceChildren("Between ", chosen[0], " and ", chosen[1]);
    } catch (error) {
      results.replaceChildren(problem(error));
    }
  }

  async function search(event) {
    event?.preventDefault();
    const query = field.value.trim();
    if (!query || !chosen) return;
    results.replaceChildren(h("p", { class: "status" }, h("span", { class: "dots", "aria-hidden": "true" }), "Searching…"));
    try {
      const body = { query, a: chosen[0].value, b: chosen[1].value, limit: LIMIT };
      const found = await call("/v1/interleave", { method: "POST", body });
      results.replaceChildren(
        h("p", { class: "faint" }, found.results.length ? count(found.results.length, "passage") : "Nothing was found."),
        h("ol", {}, ...found.results.map((result) => h("li", {}, hit(found.id, result, terms(query))))),
      );
    } catch (error) {
      results.replaceChildren(problem(error, () => search()));
    }
  }

  function hit(id, result, words) {
    const [title, ...path] = place(result);
    const target = { ...result, documentId: result.document_id, chunkId: result.id };
    const button = h(
      "button",
      {
        type: "button", class: "result",
        onclick: () => {
          openDocument(target, button);
          call("/v1/feedback", { method: "POST", body: { interleaving_id: id, kind: "click", chunk_id: result.id } })
            .then(() => button.classList.add("clicked"))
            .catch((error) => toast(`The click was not recorded: ${error.message}`));
        },
      },
      h("span", { class: "where" }, h("b", {}, title), path.length > 0 && h("span", { class: "path" }, path.join(" › "))),
      h("span", { class: "snippet" }, ...snippet(result.text, words)),
      h("span", { class: "faint meta" }, [result.source, result.license].filter(Boolean).join(" · ")),
    );
    return button;
  }

  return { show: () => field.focus({ preventScroll: true }) };
}

/** The part of a passage where the query's words are densest, with the words marked. */
function snippet(text, words, length = 280) {
  const flat = text.replace(/\s+/g, " ");
  const pieces = splitByTerms(flat, words);
  const first = pieces[0][1] || pieces.length < 2 ? 0 : pieces[0][0].length;
  const start = Math.max(0, Math.min(first - 60, flat.length - length));
  const from = start && flat.indexOf(" ", start) + 1;
  const cut = flat.slice(from, from + length);
  const shown = splitByTerms(cut, words).map(([piece, marked]) => (marked ? h("mark", {}, piece) : piece));
  return [from > 0 && "… ", ...shown, from + length < flat.length && " …"].filter(Boolean);
}
