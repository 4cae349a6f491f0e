// The arms one can ask: models named docs…, with what the generator says about each.
import { call } from "./api.js";
import { h } from "./dom.js";

let asked = null;

/** [{model, name, description}], the default first; asked for once. */
export function arms() {
  asked ??= load().catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

async function load() {
  const [models, known] = await Promise.all([call("/v1/models"), call("/v1/arms")]);
  const served = new Set(models.data.map(({ id }) => id));
  return known.data.filter((arm) => served.has(arm.model));
}

/** A select of arms; `value` of an option is `arm[key]`. */
export function armSelect(label, list, key, chosen) {
  const select = h("select", { "aria-label": label }, ...list.map((arm) => h("option", { value: arm[key], title: arm.description }, arm.name)));
  if (chosen) select.value = chosen;
  return select;
}
