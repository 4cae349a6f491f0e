// Thumbs, with an optional word on why.
import { call } from "./api.js";
import { h, iconButton, toast } from "./dom.js";

/** Thumbs for `subject` ({answer_id}). `given`: the thumb that was given before, "up" or "down". */
export function thumbs(subject, given = null) {
  const box = h("div", { class: "thumbs", role: "group", "aria-label": "Was this answer useful?" });
  const buttons = { up: button("up", "Useful"), down: button("down", "Not useful") };

  function button(kind, label) {
    return iconButton(kind, label, () => give(kind), { "aria-pressed": given === kind ? "true" : "false" });
  }

  async function give(kind) {
    try {
      await call("/v1/feedback", { method: "POST", body: { ...subject, kind } });
    } catch (error) {
      toast(`Not recorded: ${error.message}`);
      return;
    }
    for (const [name, element] of Object.entries(buttons)) element.setAttribute("aria-pressed", String(name === kind));
    box.querySelector("form")?.remove();
    box.append(comment(kind));
  }

  function comment(kind) {
    const field = h("input", { type: "text", maxlength: 1000, "aria-label": "Comment", placeholder: kind === "up" ? "What was good? (optional)" : "What was wrong? (optional)" });
    const form = h(
      "form",
      {
        class: "comment",
        onsubmit: async (event) => {
          event.preventDefault();
          if (!field.value.trim()) return;
          try {
            await call("/v1/feedback", { method: "POST", body: { ...subject, kind, comment: field.value.trim() } });
            form.replaceChildren(h("span", { class: "faint", role: "status" }, "Thank you."));
          } catch (error) {
            toast(`Not recorded: ${error.message}`);
          }
        },
      },
      field,
      h("button", {}, "Send"),
    );
    return form;
  }

  box.append(buttons.up, buttons.down);
  return box;
}
