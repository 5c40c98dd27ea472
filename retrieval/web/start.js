// Before anything is asked: how many pictures there are, and the largest categories, each by the picture that is
// most like its name.

import * as api from "./api.js";
import { button, element, find } from "./elements.js";
import { Pictures } from "./pictures.js";
import { plural } from "./words.js";

const CARDS = 8; // a search of one result each: as many as fill two rows

export class Start {
  #ending = new AbortController();
  #pictures = new Pictures();
  #open = false;

  /** `begin(category)` when one is chosen. */
  show({ shown, facets }, begin) {
    if (this.#open) return; // a filter that is set meanwhile changes no card
    this.#open = true;
    this.#ending = new AbortController();
    this.#pictures = new Pictures();
    find("start-title").textContent = `Search ${plural(shown, "picture")}`;
    const categories = (facets.category ?? []).slice(0, CARDS).map(({ value }) => value);
    const images = categories.map(() => element("img", { alt: "", draggable: "false" }));
    const cards = categories.map((category, place) => {
      const frame = element("span", { class: "frame" }, images[place]);
      return element("li", {}, button({ class: "card" }, () => begin(category), frame, category));
    });
    find("starters").replaceChildren(...cards);
    this.#fill(categories, images);
  }

  close() {
    this.#open = false;
    this.#ending.abort();
    this.#pictures.close();
  }

  async #fill(categories, images) {
    const { signal } = this.#ending;
    try {
      for (const [place, category] of categories.entries()) {
        const { results } = await api.search({ text: category, where: { category: [category] }, k: 1 }, signal);
        if (results.length && !signal.aborted) this.#pictures.show(images[place], results[0].uid);
      }
    } catch (error) {
      // A card without its picture still leads to the category, and a search then says what is wrong.
      if (!signal.aborted && !(error instanceof api.Refused)) throw error;
    }
  }
}
