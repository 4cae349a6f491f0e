// What each stage found: BM25, dense, fused, reranked, side by side, with scores and how places changed.
import { h } from "./dom.js";
import { openDocument } from "./panel.js";
import { milliseconds, place, score } from "./text.js";

const STAGES = [
  ["bm25", "BM25", "by the words they share with the question"],
  ["dense", "Dense", "by meaning: nearness of their vectors"],
  ["fused", "Fused", "both lists joined by rank"],
  ["reranked", "Reranked", "read together with the question, one by one"],
];
const SHOWN = 6;

/** `stages` as the trace has them; `used`: ids of the chunks that the answer was written from. */
export function stagesView(stages, used) {
  const ranks = new Map(STAGES.map(([name]) => [name, new Map((stages[name] ?? []).map((item, i) => [item.chunk_id, i + 1]))]));
  const searches = ["bm25", "dense"];
  const box = h("div", { class: "stages", role: "group", "aria-label": "What each stage found", tabindex: "0" });
  for (const [name, title, how] of STAGES) {
    if (!stages[name]?.length && !(searches.includes(name) && stages.fused?.length)) continue;
    box.append(column(name, title, how, stages[name], ranks, used));
  }
  const light = (id) => {
    for (const row of box.querySelectorAll(".hit")) row.classList.toggle("same", row.dataset.chunk === id);
  };
  for (const type of ["pointerover", "focusin"]) {
    box.addEventListener(type, (event) => light(event.target.closest(".hit")?.dataset.chunk));
  }
  box.addEventListener("pointerleave", () => light(undefined));
  return box;
}

function column(name, title, how, items, ranks, used) {
  const rows = items.map((item, index) => hit(name, item, index + 1, ranks, used));
  const list = h("ol", {}, ...rows.slice(0, SHOWN));
  const rest = rows.slice(SHOWN);
  const more = h("button", { type: "button", class: "quiet", onclick: () => { list.append(...rest); more.remove(); } }, `${rest.length} more`);
  return h(
    "section",
    { class: "stage", "aria-label": title },
    h("h4", {}, title),
    h("p", { class: "faint" }, how),
    items.length ? list : h("p", { class: "faint" }, "nothing"),
    rest.length > 0 && more,
  );
}

function hit(stage, item, rank, ranks, used) {
  const [title, ...path] = place(item);
  const target = { ...item, documentId: item.document_id, chunkId: item.chunk_id };
  const button = h(
    "button",
    {
      type: "button", class: used.has(item.chunk_id) ? "hit used" : "hit", "data-chunk": item.chunk_id, title: item.text,
      onclick: () => openDocument(target, button),
    },
    h("span", { class: "rank" }, String(rank)),
    h("span", { class: "where" }, h("b", {}, title), path.length > 0 && h("span", { class: "path" }, path.at(-1))),
    h("span", { class: "numbers" }, h("span", {}, score(item.score)), movement(stage, item.chunk_id, rank, ranks)),
  );
  return h("li", {}, button);
}

/** Where a passage was in the stage before. */
function movement(stage, id, rank, ranks) {
  if (stage === "fused") {
    const from = ["bm25", "dense"].map((name) => [name, ranks.get(name).get(id)]).filter(([, place]) => place);
    return h("span", { class: "moved" }, from.map(([name, place]) => `${name === "bm25" ? "BM25" : "dense"} ${place}`).join(" · "));
  }
  if (stage !== "reranked") return null;
  const before = (ranks.get("fused").get(id) ?? ranks.get("bm25").get(id) ?? ranks.get("dense").get(id));
  if (!before) return h("span", { class: "moved" }, "new");
  const by = before - rank;
  if (by === 0) return h("span", { class: "moved", title: "same place as before" }, "＝");
  const words = `${by > 0 ? "up" : "down"} ${Math.abs(by)}, from ${before}`;
  return h("span", { class: by > 0 ? "moved rose" : "moved fell", title: words, "aria-label": words, role: "img" }, `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`);
}

const TIMES = { evidence: "finding evidence", search: "search", rerank: "reranking", condense: "rephrasing", first_text: "to the first words", answer: "writing", total: "in all" };

export function timingsView(timings) {
  const entries = Object.entries(timings ?? {}).filter(([, ms]) => typeof ms === "number");
  if (!entries.length) return null;
  return h("dl", { class: "timings", "aria-label": "Timings" }, ...entries.map(([name, ms]) => h("div", {}, h("dt", {}, TIMES[name] ?? name.replaceAll("_", " ")), h("dd", {}, milliseconds(ms)))));
}
