// The search box: words, a picture beside them, and how much each of the two counts.

import { asset, Refused } from "./api.js";
import { find } from "./elements.js";
import { Pictures } from "./pictures.js";
import { weights } from "./state.js";

export class Ask {
  #form = find("ask");
  #text = find("text");
  #chip = find("given");
  #weight = find("weight");
  #pictures = new Pictures();
  #asked = "";
  #shown = null; // the uid, or the caller's own picture, that the chip shows

  /** `submit(changes)` when something is asked; `drop()` takes the picture out. */
  constructor({ submit, drop }) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit({});
    });
    this.#chip.querySelector("button").addEventListener("click", () => {
      drop();
      this.focus();
    });
    this.#weight.addEventListener("input", () => this.#told());
    this.#weight.addEventListener("change", () => submit({ mix: Number(this.#weight.value) }));
    this.#text.addEventListener("keydown", ({ key }) => {
      if (key === "Backspace" && !this.#text.value && !this.#chip.hidden) drop();
    });
  }

  /** The words in the box, sent or not yet: a filter that is set meanwhile sends them too. */
  get written() {
    return this.#text.value.trim();
  }

  focus() {
    this.#text.focus();
    this.#text.select();
  }

  /** `given` is the caller's own picture or null, `known` the result that `state.uid` names, where it is at hand. */
  show(state, given, known) {
    const pictured = given ?? state.uid;
    const typing = document.activeElement === this.#text && state.text === this.#asked;
    if (!typing) this.#text.value = state.text;
    this.#asked = state.text;
    this.#text.placeholder = pictured ? "Add words, such as: at night" : "Describe a picture, or drop one here";
    this.#chip.hidden = !pictured;
    find("mix").hidden = !(pictured && state.text);
    this.#weight.value = String(state.mix);
    this.#told();
    if (pictured === this.#shown) return;
    this.#shown = pictured;
    this.#pictures.close();
    this.#pictures = new Pictures();
    if (given) this.#given(given);
    else if (pictured) this.#alike(pictured, known);
  }

  refuse(words) {
    const place = find("unfit");
    place.textContent = words;
    place.hidden = !words;
  }

  #given({ name, url }) {
    this.#named(name);
    this.#chip.querySelector("img").src = url;
  }

  async #alike(uid, known) {
    const image = this.#chip.querySelector("img");
    image.removeAttribute("src");
    this.#pictures.show(image, uid);
    this.#named(known?.description ?? uid);
    if (known) return;
    try {
      const { description } = await asset(uid);
      if (this.#shown === uid) this.#named(description);
    } catch (error) {
      if (!(error instanceof Refused)) throw error; // the search by it is refused too, and says why
    }
  }

  #named(words) {
    const place = this.#chip.querySelector("span");
    place.textContent = words;
    place.title = words;
  }

  #told() {
    const { image, text } = weights(Number(this.#weight.value), "image");
    this.#weight.setAttribute("aria-valuetext", `picture ${image}, words ${text}`);
  }
}
