// What clicks and thumbs say of the arms so far.
import { call } from "./api.js";
import { h, problem } from "./dom.js";
import { score } from "./text.js";

export function reportView() {
  const body = h("div", { class: "how-body" });
  const box = h("details", { class: "how" }, h("summary", {}, "What the votes say so far"), body);
  box.addEventListener("toggle", async () => {
    if (!box.open) return;
    try {
      body.replaceChildren(...tables(await call("/v1/feedback/report")));
    } catch (error) {
      body.replaceChildren(problem(error));
    }
  });
  return box;
}

function tables({ pairs, thumbs }) {
  if (!pairs.length && !thumbs.length) return [h("p", { class: "faint" }, "No votes yet.")];
  return [
    pairs.length > 0 && table("Searches won, by clicks", ["Arms", "wins", "ties", "p"],
      pairs.map((pair) => [`${pair.a} : ${pair.b}`, `${pair.wins_a} : ${pair.wins_b}`, pair.ties, score(pair.p_value)])),
    thumbs.length > 0 && table("Thumbs on answers", ["Arm", "up", "down", "share up (95 %)"],
      thumbs.map(({ arm, up, down, share_up: share, ci95 }) => [arm, up, down, share === null ? "–" : `${percent(share)} (${ci95.map(percent).join("–")})`])),
  ].filter(Boolean);
}

const percent = (share) => `${Math.round(100 * share)} %`;

function table(title, heads, rows) {
  return h(
    "table",
    {},
    h("caption", {}, title),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, String(cell)))))),
  );
}
