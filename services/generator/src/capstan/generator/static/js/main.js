// Starts the page: key, theme, keyboard, and one view per address.
import { askView } from "./ask.js";
import { hideCard, setUpCard } from "./card.js";
import { compareView } from "./compare.js";
import { documentsView } from "./documents.js";
import { byId } from "./dom.js";
import { historyView } from "./history.js";
import { setUpKeyButton, takeKeyFromAddress } from "./key.js";
import { closePanel } from "./panel.js";
import { searchView } from "./search.js";
import { watchIndex } from "./status.js";
import { setUpTheme } from "./theme.js";

const VIEWS = {
  ask: ["Ask", askView],
  compare: ["Compare", compareView],
  search: ["Search", searchView],
  documents: ["Documents", documentsView],
  history: ["History", historyView],
};
const made = {};

function route() {
  takeKeyFromAddress(); // a link with a key may also be opened in a page that is already there
  const [, wanted = "ask", rest = ""] = /^#\/([a-z]*)\/?(.*)$/.exec(location.hash) ?? [];
  const name = wanted in VIEWS ? wanted : "ask";
  const [title, make] = VIEWS[name];
  made[name] ??= make(byId(`view-${name}`));
  for (const other of Object.keys(VIEWS)) byId(`view-${other}`).hidden = other !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = name === "ask" ? "Capstan" : `${title} · Capstan`;
  hideCard();
  made[name].show?.(rest ? decodeURIComponent(rest) : "");
}

function onKey(event) {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (hideCard() || closePanel()) event.preventDefault();
    return;
  }
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("section:not([hidden]) [data-question]");
  if (field) field.focus();
  else location.hash = "#/ask";
  event.preventDefault();
}

takeKeyFromAddress();
setUpTheme();
setUpKeyButton();
setUpCard();
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", route);
route();
watchIndex();
