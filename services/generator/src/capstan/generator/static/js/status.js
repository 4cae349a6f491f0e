// How much is indexed, in the bar; faster while vectors are being made.
import { call } from "./api.js";
import { byId } from "./dom.js";
import { count, seconds } from "./text.js";

let timer = null;

export function watchIndex() {
  look();
  window.addEventListener("key", look);
  document.addEventListener("visibilitychange", () => document.hidden || look());
}

/** Look again now: something was uploaded or deleted. */
export async function look() {
  clearTimeout(timer);
  let pending = 0;
  try {
    const index = await call("/v1/index");
    pending = index.pending;
    show(index);
  } catch {
    byId("index").hidden = true; // whoever asks something sees what is wrong
  }
  if (!document.hidden) timer = setTimeout(look, pending ? 3000 : 30000);
}

function show(index) {
  const pill = byId("index");
  pill.hidden = false;
  pill.textContent = index.pending ? `${share(index)} embedded` : count(index.chunks, "passage");
  pill.title = sentence(index);
  window.dispatchEvent(new CustomEvent("index", { detail: index }));
}

const share = ({ embedded, chunks }) => `${Math.floor((100 * embedded) / Math.max(1, chunks))} %`;

/** The index's state as a sentence. */
export function sentence(index) {
  const all = `${count(index.documents, "document")}, ${count(index.chunks, "passage")}`;
  if (!index.pending) return `${all}, all of them embedded.`;
  const left = index.eta_s === null ? "" : `, about ${seconds(index.eta_s)} left`;
  return `${all}; ${share(index)} embedded${left}. Until then the rest is found by its words.`;
}
