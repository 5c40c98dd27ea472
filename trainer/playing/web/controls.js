// Labelled controls, and the settings that every tab has.

import { button, element } from "./elements.js";

const MAX_SEED = 2 ** 31 - 1; // of one that is drawn; any up to 2 ** 53 - 1 may be written
const SETTINGS = {
  guidance: { label: "Guidance", hint: "how closely the words are followed; 1 is none", min: 1, max: 50, step: 0.5 },
  image_guidance: { label: "Guidance by the picture", hint: "how much of it is kept", min: 0, max: 50, step: 0.5 },
  text_guidance: { label: "Guidance by the instruction", hint: "how much is changed", min: 0, max: 50, step: 0.5 },
  temperature: { label: "Temperature", hint: "0 takes the likeliest token", min: 0, max: 10, step: 0.05 },
  top_p: { label: "Top-p", hint: "from the likeliest tokens that hold this share", min: 0.01, max: 1, step: 0.01 },
  max_text_tokens: { label: "Longest answer", hint: "in tokens", min: 1, max: 512, step: 1 },
};
let made = 0;

/** A control under its label; `hint` is read out with it. */
export function field(label, control, hint = null) {
  made += 1;
  control.id ||= `field-${made}`;
  if (hint) control.setAttribute("aria-describedby", `hint-${made}`);
  const told = hint && element("span", { class: "note", id: `hint-${made}` }, hint);
  return element("p", { class: "field" }, element("label", { for: control.id }, label), control, told);
}

export function number(attributes) {
  return element("input", { type: "number", required: true, ...attributes });
}

export function words(attributes) {
  const area = element("textarea", { rows: "3", maxlength: "1000", ...attributes });
  // A prompt is one line; Enter with Ctrl sends it.
  area.addEventListener("input", () => {
    if (/[\r\n]/.test(area.value)) area.value = area.value.replace(/[\r\n]+/g, " ");
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
  });
  return area;
}

/** What a tab lets be set of the sampler, with the seed and perhaps the number of samples. */
export class Settings {
  #inputs;
  #seed = number({ min: "0", max: String(Number.MAX_SAFE_INTEGER), step: "1", value: "0" });
  #samples = null;

  constructor(names, facts, samples = null) {
    this.#inputs = names.map((name) => [name, number({ ...bounds(name, facts), name, value: facts.settings[name] })]);
    if (samples) this.#samples = number({ min: "1", max: String(facts.max_samples), step: "1", value: String(samples) });
  }

  get nodes() {
    const another = () => (this.#seed.value = String(Math.floor(Math.random() * MAX_SEED)));
    const seed = field("Seed", this.#seed, "the same draws the same");
    seed.append(button({ class: "plain" }, another, "Another seed"));
    const inputs = this.#inputs.map(([name, input]) => field(SETTINGS[name].label, input, SETTINGS[name].hint));
    const first = this.#samples ? [field("Samples", this.#samples)] : [];
    return [
      element("div", { class: "pair" }, ...first, seed),
      element("details", {}, element("summary", {}, "Sampler"), element("div", { class: "pair" }, ...inputs)),
    ];
  }

  read() {
    const settings = Object.fromEntries(this.#inputs.map(([name, { valueAsNumber }]) => [name, valueAsNumber]));
    const samples = this.#samples ? { samples: this.#samples.valueAsNumber } : {};
    return { seed: this.#seed.valueAsNumber, settings, ...samples };
  }
}

/** What the run itself has is always allowed. */
function bounds(name, { settings }) {
  const { min, max, step } = SETTINGS[name];
  const whole = name === "max_text_tokens";
  const found = { min: Math.min(min, settings[name]), max: Math.max(max, settings[name]), step: whole ? step : "any" };
  return Object.fromEntries(Object.entries(found).map(([key, value]) => [key, String(value)]));
}
