// What the model is shown of the corpus beside the words: each with its licence and its credit, and a switch.

import { Refused } from "./api.js";
import * as calls from "./calls.js";
import { field } from "./controls.js";
import { element } from "./elements.js";
import { Pictures } from "./pictures.js";
import { named, score } from "./words.js";

const PAUSE_MS = 350; // in typing, before they are looked for

export class Neighbors {
  #count;
  #list = element("ul", { class: "neighbors", "aria-label": "Neighbors" });
  #told = element("p", { class: "note", role: "status" });
  #pictures = new Pictures();
  #text;
  #found = [];
  #off = new Set(); // of uids: one that comes back stays as it was left
  #ending = new AbortController();
  #timer = 0;

  /** `text` is the control whose words they are near to. */
  constructor(text, { max_neighbors }) {
    this.#text = text;
    const numbers = Array.from({ length: max_neighbors + 1 }, (_, number) => String(number));
    this.#count = element("select", {}, ...numbers.map((one) => element("option", { value: one }, one)));
    this.#count.value = String(max_neighbors);
    this.#count.addEventListener("change", () => this.#look());
    text.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#look(), PAUSE_MS);
    });
  }

  get nodes() {
    const count = field("Neighbors", this.#count, "pictures of the corpus that the model is shown");
    return [element("div", { class: "near" }, count, this.#told, this.#list)];
  }

  read() {
    const without = this.#found.map(({ uid }) => uid).filter((uid) => this.#off.has(uid));
    return { neighbors: Number(this.#count.value), without };
  }

  async #look() {
    clearTimeout(this.#timer);
    this.#ending.abort();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const words = this.#text.value.trim();
    const count = Number(this.#count.value);
    try {
      const found = words && count ? await calls.neighbors(words, count, signal) : [];
      if (signal.aborted) return;
      this.#show(found);
      this.#told.textContent = words && count && !found.length ? "None that may be used is near enough." : "";
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
    this.#found = found;
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
