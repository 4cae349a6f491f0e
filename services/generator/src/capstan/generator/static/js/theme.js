// Dark and light: the system's choice until the user makes one.
import { byId, icon } from "./dom.js";

const NAME = "capstan.theme";

export function setUpTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  const current = () => localStorage.getItem(NAME) ?? (dark.matches ? "dark" : "light");
  const apply = () => {
    const theme = current();
    const label = theme === "dark" ? "Light theme" : "Dark theme";
    document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon(theme === "dark" ? "sun" : "moon"));
    button.title = label;
    button.setAttribute("aria-label", label);
  };
  button.addEventListener("click", () => {
    localStorage.setItem(NAME, current() === "dark" ? "light" : "dark");
    apply();
  });
  dark.addEventListener("change", apply);
  byId("key").replaceChildren(icon("key"));
  apply();
}
