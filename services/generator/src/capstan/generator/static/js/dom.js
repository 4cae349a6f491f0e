// Elements from data. Text only ever becomes a text node: there is no markup from strings in this page.

const PATHS = {
  up: "M7 11v9H4v-9zM7 11l4-8c1.7 0 2.5 1 2.5 2.5L13 9h5.5c1.2 0 2 1 1.8 2.2l-1.2 7c-.2 1-1 1.8-2 1.8H7",
  down: "M7 13V4H4v9zM7 13l4 8c1.7 0 2.5-1 2.5-2.5L13 15h5.5c1.2 0 2-1 1.8-2.2l-1.2-7c-.2-1-1-1.8-2-1.8H7",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  moon: "M20 14.5A8.5 8.5 0 119.5 4a7 7 0 0010.5 10.5z",
  key: "M15.5 3.5a5 5 0 100 10 5 5 0 000-10zM12 12l-8 8M7 17l2.5 2.5",
  send: "M12 20V5M5.5 11.5L12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  search: "M10.5 4a6.5 6.5 0 100 13 6.5 6.5 0 000-13zM15.5 15.5L21 21",
  redo: "M20 12a8 8 0 11-2.5-5.8L20 8.5M20 3.5v5h-5",
};

/** An element: `h("p", {class: "x", onclick: f, aria-label: "…"}, "text", child, null)`. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the page's line icons; decoration, so silent. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon, named for everyone by `label`. */
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

export const byId = (id) => document.getElementById(id);

/** Say something to screen readers. */
export function announce(text) {
  const line = h("p", {}, text);
  byId("live").append(line);
  setTimeout(() => line.remove(), 10000);
}

/** A short message at the page's edge, read out as well. */
export function toast(text) {
  const line = h("p", {}, text);
  byId("toasts").append(line);
  setTimeout(() => line.remove(), 6000);
}

/** Ask before something is gone. Resolves to true when the user confirms. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    const back = document.activeElement;
    const done = (answer) => {
      dialog.close();
      dialog.remove();
      if (back?.isConnected) back.focus();
      resolve(answer);
    };
    const cancel = h("button", { type: "button", onclick: () => done(false) }, "Cancel");
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title", oncancel: () => done(false) },
      h("h2", { id: "confirm-title" }, title),
      h("p", {}, text),
      h("div", { class: "actions" }, cancel, h("button", { type: "button", class: "danger", onclick: () => done(true) }, action)),
    );
    document.body.append(dialog);
    dialog.showModal();
    cancel.focus();
  });
}

/** An error where the thing that failed would have stood. */
export function problem(error, retry) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, error.message),
    retry && h("button", { type: "button", onclick: retry }, "Try again"),
  );
}
