// Files on their way into the index: sent, read, searchable, embedded; what went wrong in words.
import { call, errorFrom, pathOf } from "./api.js";
import { currentKey, keyRejected } from "./key.js";
import { announce, h, icon, iconButton } from "./dom.js";
import { look } from "./status.js";
import { count, size } from "./text.js";

export const ACCEPTED = ".html,.htm,.md,.markdown,.rst,.txt,.text,.pdf";
const AT_ONCE = 2;
const SAID = { created: "added", updated: "replaced", unchanged: "unchanged" };

/** The list of uploads. `changed()` is called when a document came to be. */
export class Uploads {
  constructor(changed) {
    this.changed = changed;
    this.waiting = [];
    this.running = 0;
    this.element = h("ul", { class: "uploads", "aria-label": "Uploads" });
  }

  add(files) {
    for (const file of files) {
      const row = new Row(file, () => this.queue(row));
      this.element.prepend(row.element);
      this.queue(row);
    }
  }

  queue(row) {
    this.waiting.push(row);
    row.say("waiting");
    this.next();
  }

  async next() {
    if (this.running >= AT_ONCE || !this.waiting.length) return;
    const row = this.waiting.shift();
    this.running += 1;
    this.next();
    try {
      if (await row.send()) this.changed();
    } finally {
      this.running -= 1;
      this.next();
    }
  }
}

class Row {
  constructor(file, retry) {
    this.file = file;
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
    this.state = h("span", { class: "faint state" });
    this.again = iconButton("redo", `Upload ${file.name} again`, retry, { hidden: true });
    const dismiss = iconButton("close", `Take ${file.name} off this list`, () => this.element.remove());
    this.element = h("li", {}, icon("file"), h("span", { class: "name" }, file.name), h("span", { class: "faint" }, size(file.size)), this.state, this.again, dismiss, this.bar);
  }

  say(text, kind = "") {
    this.state.textContent = text;
    this.element.className = kind;
  }

  /** Resolves to whether it is in the index. */
  async send() {
    this.again.hidden = true;
    this.bar.hidden = false;
    this.bar.value = 0;
    try {
      const done = await upload(this.file, (share) => this.progress(share));
      this.bar.value = 1;
      this.say(`searchable · ${SAID[done.status] ?? done.status}, ${count(done.chunks, "passage")}`);
      announce(`${this.file.name} is searchable.`);
      look();
      this.follow(done);
      return true;
    } catch (error) {
      this.bar.hidden = true;
      this.again.hidden = false;
      this.say(error.message, "failed");
      announce(`${this.file.name} was not added: ${error.message}`);
      return false;
    }
  }

  progress(share) {
    this.bar.value = share * 0.9; // the rest is reading and indexing
    this.say(share < 1 ? `sending, ${Math.round(share * 100)} %` : "reading…");
  }

  /** Watch the vectors come: the document is findable by its words already. */
  async follow({ id, status }, wait = 700) {
    if (!this.element.isConnected) return;
    try {
      const { chunks, embedded } = await call(`/v1/documents/${pathOf(id)}`);
      const done = embedded >= chunks;
      const word = SAID[status] ?? status;
      this.say(done ? `ready · ${word}, ${count(chunks, "passage")}` : `searchable · embedded ${embedded}/${chunks}`, done ? "ready" : "");
      this.bar.hidden = done;
      if (!done) setTimeout(() => this.follow({ id, status }, Math.min(wait * 1.4, 8000)), wait);
      else look();
    } catch (error) {
      this.bar.hidden = true;
      if (error.status === 404) this.say("deleted");
    }
  }
}

/** POST one file; XMLHttpRequest, because fetch tells nothing of an upload's progress. */
async function upload(file, progress) {
  const key = await currentKey();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    request.open("POST", "/v1/files");
    request.setRequestHeader("authorization", `Bearer ${key}`);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.upload.addEventListener("load", () => progress(1));
    request.addEventListener("error", () => reject(new Error("the connection broke; try again")));
    request.addEventListener("load", () => {
      if (request.status < 300) {
        resolve(JSON.parse(request.responseText));
        return;
      }
      if (request.status === 401) keyRejected(key);
      reject(errorFrom(request.status, request.responseText, request.getResponseHeader("retry-after")));
    });
    request.send(form);
  });
}
