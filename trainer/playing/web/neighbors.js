// What the model is shown of the corpus beside what it is given: each with its licence and its credit, and a switch.

import { Refused } from "./api.js";
import { field } from "./controls.js";
import { element } from "./elements.js";
import { Pictures } from "./pictures.js";
import { named, score } from "./words.js";

const MOST_OFF = 32; // that the service takes
const PAUSE_MS = 350; // in typing, before they are looked for

/** Calls `near.changed()` once nothing more is typed. */
export function followed(text, near) {
  let timer = 0;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => near.changed(), PAUSE_MS);
  });
}

export class Neighbors {
  #count;
  #list = element("ul", { class: "neighbors", "aria-label": "Neighbors" });
  #told = element("p", { class: "note", role: "status" });
  #pictures = new Pictures();
  #look;
  #off = new Set(); // of uids: one that comes back stays as it was left
  #ending = new AbortController();

  /** `look(count, signal)` asks for them; null where there is nothing to be near to. */
  constructor({ max_neighbors }, look) {
    this.#look = look;
    const numbers = Array.from({ length: max_neighbors + 1 }, (_, number) => String(number));
    this.#count = element("select", {}, ...numbers.map((one) => element("option", { value: one }, one)));
    this.#count.value = String(max_neighbors);
    this.#count.addEventListener("change", () => this.changed());
  }

  get nodes() {
    const count = field("Neighbors", this.#count, "pictures of the corpus that the model is shown");
    return [element("div", { class: "near" }, count, this.#told, this.#list)];
  }

  /** All that were switched off: what the list shows may be of other words, or have failed. */
  read() {
    return { neighbors: Number(this.#count.value), without: [...this.#off].slice(-MOST_OFF) };
  }

  /** Looks for them anew. */
  async changed() {
    this.#ending.abort();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const count = Number(this.#count.value);
    try {
      const found = count ? await this.#look(count, signal) : null;
      if (signal.aborted) return;
      this.#show(found ?? []);
      this.#told.textContent = found && !found.length ? "None that may be used is near enough." : "";
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused)) throw error;
      this.#show([]);
      this.#told.textContent = [error.message, error.fix].filter(Boolean).join(": ");
    }
  }

  #show(found) {
    this.#pictures.close();
    this.#pictures = new Pictures();
    this.#list.replaceChildren(...found.map((one) => this.#item(one)));
  }

  #item(one) {
    const box = element("input", { type: "checkbox" });
    box.checked = !this.#off.has(one.uid);
    box.addEventListener("change", () => {
      if (box.checked) this.#off.delete(one.uid);
      else this.#off.add(one.uid);
    });
    return element("li", {}, element("label", {}, box, ...described(one, this.#pictures)));
  }
}

/** A neighbor's picture where it may be shown, its words, its licences and its credit. */
export function described({ uid, score: near, description, licenses, attribution, shown }, pictures) {
  const frame = element("span", { class: "frame" }, element("img", { alt: description, draggable: "false" }));
  if (shown) pictures.show(frame.firstElementChild, uid);
  else frame.dataset.missing = "May not be shown";
  const names = licenses.map((name) => named("license", name)).join(", ");
  const facts = `Licence ${names} · likeness ${score(near)}`;
  const lines = [
    element("span", { class: "what" }, description || "A picture that its licences keep from being shown"),
    element("span", { class: "note" }, facts),
    attribution ? element("span", { class: "note" }, attribution) : null,
  ];
  return [frame, element("span", { class: "lines" }, ...lines)];
}
