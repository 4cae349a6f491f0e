// The API key: from the address's fragment, which browsers never send, or asked for.
import { byId, h, toast } from "./dom.js";

const NAME = "capstan.key";
let waiting = null;

/** Take `#key=…` out of the address, before anything else looks at it. */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return;
  sessionStorage.setItem(NAME, given);
  history.replaceState(null, "", `${location.pathname}${location.search}#/ask`);
}

const stored = () => sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);

/** The key; asks for it, once for all who wait. */
export async function currentKey() {
  return stored() ?? (waiting ??= askForKey("")).finally(() => (waiting = null));
}

/** The server refused `key`: forget it, say so, and ask for another. */
export function keyRejected(key) {
  if (stored() !== key) return;
  forget();
  waiting ??= askForKey("This key was not accepted. Check that it is whole and still valid.").finally(() => (waiting = null));
  waiting.then(() => window.dispatchEvent(new Event("key")));
}

function forget() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
}

function keep(key, remember) {
  forget();
  (remember ? localStorage : sessionStorage).setItem(NAME, key);
}

/** The button in the bar. */
export function setUpKeyButton() {
  byId("key").addEventListener("click", async () => {
    await askForKey("", true);
    window.dispatchEvent(new Event("key"));
    toast("The key is set.");
  });
}

function askForKey(complaint, optional = false) {
  return new Promise((resolve) => {
    const field = h("input", {
      id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", required: true,
      "aria-describedby": "key-help", "aria-invalid": complaint ? "true" : false,
    });
    const remember = h("input", { type: "checkbox", id: "key-remember" });
    const dialog = h("dialog", { class: "key", "aria-labelledby": "key-title" });
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          if (!field.value.trim()) return;
          keep(field.value.trim(), remember.checked);
          dialog.close();
          dialog.remove();
          resolve(stored());
        },
      },
      h("h2", { id: "key-title" }, "Your API key"),
      complaint && h("p", { class: "problem", role: "alert" }, complaint),
      h("p", { id: "key-help" }, "The stack printed it when it started; it is also in the file .capstan/api-key. It stays in this browser."),
      h("label", { for: "key-field" }, "API key"),
      field,
      h("label", { class: "check" }, remember, " Remember it on this device"),
      h(
        "div",
        { class: "actions" },
        optional && h("button", { type: "button", onclick: () => { dialog.close(); dialog.remove(); } }, "Cancel"),
        h("button", { class: "primary" }, "Use this key"),
      ),
    );
    dialog.append(form);
    dialog.addEventListener("cancel", (event) => (optional ? dialog.remove() : event.preventDefault()));
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}
