// The card beside a citation: its passage, with the words behind the citation marked.
import { byId, h } from "./dom.js";
import { locate, place, score } from "./text.js";

const targets = new WeakMap();
let shown = null;
let leaving = null;

/** Let hovering or focusing `element` show the card of `target`. */
export function citationTarget(element, target) {
  targets.set(element, target);
  element.setAttribute("aria-describedby", "card");
}

export function setUpCard() {
  const card = byId("card");
  const enter = (event) => {
    const element = event.target.closest?.("[aria-describedby=card]");
    if (element) show(element);
    else if (card.contains(event.target)) clearTimeout(leaving);
    else if (shown && event.type === "pointerover") leave();
  };
  document.addEventListener("pointerover", (event) => event.pointerType !== "touch" && enter(event));
  document.addEventListener("focusin", (event) => (event.target.matches(":focus-visible") ? enter(event) : hideCard()));
  document.addEventListener("focusout", () => leave());
  document.addEventListener("click", (event) => card.contains(event.target) || hideCard());
  document.addEventListener("scroll", (event) => card.contains(event.target) || hideCard(), { capture: true, passive: true });
}

function leave() {
  clearTimeout(leaving);
  leaving = setTimeout(hideCard, 160); // time to reach the card itself
}

/** Returns whether there was one to hide. */
export function hideCard() {
  clearTimeout(leaving);
  if (!shown) return false;
  shown = null;
  byId("card").hidden = true;
  return true;
}

function show(element) {
  clearTimeout(leaving);
  if (shown === element) return;
  const target = targets.get(element);
  if (!target) return;
  shown = element;
  const card = byId("card");
  card.replaceChildren(...content(target));
  card.hidden = false;
  position(card, element.getBoundingClientRect());
  card.querySelector("mark")?.scrollIntoView?.({ block: "nearest" });
}

function content(target) {
  const [title, ...path] = place(target);
  const facts = [target.source, target.license, number("relevance", target.relevance), number("support", target.support)];
  return [
    h("p", { class: "card-title" }, target.number && h("span", { class: "number" }, String(target.number)), h("b", {}, title ?? "Source")),
    path.length > 0 && h("p", { class: "path" }, path.join(" › ")),
    h("p", { class: "passage" }, ...withQuote(target.text ?? target.quote ?? "", target.quote)),
    h("p", { class: "faint" }, facts.filter(Boolean).join(" · ")),
  ].filter(Boolean);
}

const number = (name, value) => (typeof value === "number" ? `${name} ${score(value)}` : null);

/** `text` with `quote` in a <mark>. */
export function withQuote(text, quote) {
  const span = locate(text, quote);
  if (!span) return [text];
  return [text.slice(0, span[0]), h("mark", {}, text.slice(...span)), text.slice(span[1])];
}

function position(card, at) {
  const gap = 8;
  const { offsetWidth: width, offsetHeight: height } = card;
  const left = Math.max(gap, Math.min(at.left - 24, document.documentElement.clientWidth - width - gap));
  const above = at.top - height - gap;
  const below = at.bottom + gap;
  const top = below + height > innerHeight - gap && above > gap ? above : Math.min(below, Math.max(gap, innerHeight - height - gap));
  card.style.setProperty("left", `${left}px`);
  card.style.setProperty("top", `${top}px`);
}
