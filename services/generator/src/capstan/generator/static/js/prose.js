// An answer's text as elements: paragraphs, lists, code, citation chips, and marks on what no passage supports.
import { h } from "./dom.js";
import { unitOffsets } from "./text.js";

const MARKER = /(?<!\w)\[(\d{1,3})\]/g;

const KINDS = { item: "item", cites: "cites" };

/**
 * Show `text` in `box`. Blocks that have not changed since the last call keep their elements, so that a stream
 * does not pull focus or selection away.
 *
 * `annotations` (final) say where citations stand; without them, in a stream, the markers do.
 * `chip(number, annotation)` makes a citation's element.
 */
export function renderProse(box, text, { annotations = null, sentences = [], chip }) {
  const unit = unitOffsets(text);
  const cites = annotations
    ? annotations.map((a) => ({ start: unit(a.start_index), end: unit(a.end_index), number: a.id, annotation: a }))
    : markers(text);
  const weak = sentences.filter((s) => !s.supported && typeof s.start === "number").map((s) => ({ start: unit(s.start), end: unit(s.end) }));
  const settled = annotations ? "final" : "stream";
  blocks(text).forEach((block, index) => {
    const source = `${settled}:${block.kind}:${text.slice(block.start, block.end)}`;
    const old = box.children[index];
    if (old?.source === source && settled === "stream") return;
    const element = h(block.kind === "code" ? "pre" : "p", { class: KINDS[block.kind] });
    element.source = source;
    const inside = (span) => span.start < block.end && span.end > block.start;
    const here = block.kind === "code" && !annotations ? [] : cites.filter(inside); // an index into an array, maybe
    element.append(...pieces(text, block, here, weak.filter(inside), chip));
    if (old) old.replaceWith(element);
    else box.append(element);
  });
  while (box.children.length > blocks(text).length) box.lastElementChild.remove();
}

function markers(text) {
  return [...text.matchAll(MARKER)].map((m) => ({ start: m.index, end: m.index + m[0].length, number: Number(m[1]) }));
}

/** Paragraphs, list items and fenced code, as spans of `text`. */
export function blocks(text) {
  const found = [];
  let fenced = false;
  let at = 0;
  for (const line of text.split("\n")) {
    const [start, end] = [at, at + line.length];
    at = end + 1;
    const last = found.at(-1);
    if (line.trimStart().startsWith("```")) {
      fenced = !fenced;
      if (fenced) found.push({ kind: "code", start: end + 1, end: end + 1 });
    } else if (fenced) {
      last.end = Math.max(last.start, end);
    } else if (!line.trim()) {
      if (last) last.closed = true;
    } else if (/^\s*([-*•]|\d{1,2}[.)])\s/.test(line)) {
      found.push({ kind: "item", start: start + /^\s*([-*•]\s+)?/.exec(line)[0].length, end });
    } else if (/^\s*(\[\d{1,3}\]\s*)+$/.test(line) && last?.kind === "code") {
      found.push({ kind: "cites", start, end, closed: true }); // what the code above rests on
    } else if (last && !last.closed && last.kind === "text") {
      last.end = end;
    } else {
      found.push({ kind: "text", start, end });
    }
  }
  return found.filter((block) => block.kind !== "code" || block.end > block.start).map((b) => ({ ...b, end: Math.min(b.end, text.length) }));
}

function pieces(text, block, cites, weak, chip) {
  const cuts = new Set([block.start, block.end]);
  for (const span of [...cites, ...weak]) {
    for (const cut of [span.start, span.end]) if (cut > block.start && cut < block.end) cuts.add(cut);
  }
  const ordered = [...cuts].sort((a, b) => a - b);
  const out = [];
  ordered.slice(0, -1).forEach((start, index) => {
    const end = ordered[index + 1];
    const cite = cites.find((c) => c.start === start && c.end === end);
    if (cite) {
      attach(out, chip(cite.number, cite.annotation));
      return;
    }
    const before = cites.some((c) => c.start === end);
    const words = before ? text.slice(start, end).trimEnd() : text.slice(start, end);
    if (!words) return;
    const inner = block.kind === "code" ? [words] : inline(words);
    const marked = words.trim() && weak.some((s) => s.start <= start && s.end >= end);
    out.push(...(marked ? [unsupported(inner)] : inner));
  });
  return out;
}

/** A chip stays on the line of the word before it. */
function attach(out, chip) {
  const last = out.at(-1);
  if (last?.className === "keep") {
    last.append(chip);
    return;
  }
  const [, lead, word] = typeof last === "string" ? /^(.*?)(\S{1,24})$/s.exec(last) ?? [] : [];
  if (word) out.splice(-1, 1, lead, h("span", { class: "keep" }, word, chip));
  else out.push(chip);
}

function unsupported(inner) {
  const why = "No passage supports this sentence";
  return h("span", { class: "unsupported", title: why }, ...inner, h("span", { class: "unseen" }, ` (${why.toLowerCase()})`));
}

/** Inline code between backticks; everything else as it is. */
function inline(words) {
  return words
    .split(/(`[^`\n]+`)/)
    .filter(Boolean)
    .map((piece) => (/^`[^`]+`$/.test(piece) ? h("code", {}, piece.slice(1, -1)) : piece));
}
