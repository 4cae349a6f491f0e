// Small work on text: positions, quotations, figures in words.

/** Positions in the API count characters (code points); strings here count UTF-16 units. */
export function unitOffsets(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (offset) => Math.min(offset, text.length);
  const starts = [];
  let at = 0;
  for (const character of text) {
    starts.push(at);
    at += character.length;
  }
  return (offset) => starts[offset] ?? text.length;
}

/** Where `quote` stands in `text`, as [start, end], whatever the white space; null where it does not. */
export function locate(text, quote) {
  const wanted = (quote ?? "").trim();
  if (!wanted) return null;
  const exact = text.indexOf(wanted);
  if (exact >= 0) return [exact, exact + wanted.length];
  const words = wanted.split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const found = new RegExp(words.join("\\s+")).exec(text);
  return found && [found.index, found.index + found[0].length];
}

/** The text of an answer without its markers: as history of the next turn, or to be read out. */
export const withoutMarkers = (text) => text.replace(/ ?(?<!\w)\[\d{1,3}\]/g, "");

const COMMON = new Set("a an and are as at be by can do does for from how i in is it my of on or that the this to what when where which who why with you your".split(" "));

/** The words of a query that are worth marking in a text. */
export function terms(query) {
  return [...new Set(query.toLowerCase().match(/[\p{L}\p{N}_]{2,}/gu) ?? [])].filter((word) => !COMMON.has(word));
}

/** `text` as [piece, isTerm] pairs. */
export function splitByTerms(text, words) {
  if (!words.length) return [[text, false]];
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(${words.join("|")})`, "giu");
  return text.split(pattern).map((piece, index) => [piece, index % 2 === 1]);
}

/** The server's notes are phrases. */
export const asSentence = (phrase) => `${phrase[0].toUpperCase()}${phrase.slice(1)}${/[.!?]$/.test(phrase) ? "" : "."}`;

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export function milliseconds(ms) {
  return ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function seconds(s) {
  if (s < 90) return `${Math.max(1, Math.round(s))} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

/** "just now", "5 min ago", "14:05", "12 Nov". `when` in seconds since 1970. */
export function ago(when, now = Date.now() / 1000) {
  const passed = now - when;
  if (passed < 60) return "just now";
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  const date = new Date(when * 1000);
  if (passed < 20 * 3600) return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

/** Title and heading path, each once. */
export const place = ({ title, heading = [] }) => [...new Set([title, ...heading].filter(Boolean))];

/** A score as people compare them: the digits that matter. */
export const score = (value) => (typeof value !== "number" ? "–" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(value < 1 ? 2 : 3));
