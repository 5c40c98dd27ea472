// The picture that something is done with: brought from a file, taken of the corpus, or of a result.

import { Refused } from "./api.js";
import * as calls from "./calls.js";
import { button, element, find } from "./elements.js";
import { Pictures } from "./pictures.js";
import { kilobytes, plural } from "./words.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];

export class Chooser {
  #name = null;
  #most;
  #pictures = new Pictures();
  #frame = element("span", { class: "frame" });
  #unfit = element("p", { class: "unfit", role: "alert", hidden: true });
  #file = element("input", { type: "file", accept: TYPES.join(","), "aria-label": "A picture of yours", hidden: true, tabindex: "-1" });
  #changed;
  node;

  /** `changed()` when there is another picture; it may put something over `frame`. */
  constructor({ max_image_bytes }, changed = () => {}) {
    this.#most = max_image_bytes;
    this.#changed = changed;
    const own = button({}, () => this.#file.click(), "Upload");
    const other = button({}, () => library.open((name) => this.set(name)), "From the corpus");
    const place = element("div", { class: "chosen" }, this.#frame);
    const acts = element("p", { class: "acts" }, own, other);
    this.node = element("div", { class: "chooser", role: "group", "aria-label": "Picture" }, place, this.#unfit, acts, this.#file);
    this.#file.addEventListener("change", () => {
      if (this.#file.files[0]) this.#given(this.#file.files[0]);
      this.#file.value = "";
    });
    this.node.addEventListener("dragover", (event) => event.preventDefault());
    this.node.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) this.#given(event.dataTransfer.files[0]);
    });
    this.#frame.dataset.missing = "Drop a picture here, upload one, or take one of the corpus";
  }

  get frame() {
    return this.#frame;
  }

  get name() {
    return this.#name;
  }

  set(name) {
    this.#name = name;
    this.#told("");
    this.#pictures.close();
    this.#pictures = new Pictures();
    const image = element("img", { alt: "The picture that was chosen", draggable: "false" });
    delete this.#frame.dataset.missing;
    this.#frame.replaceChildren(image);
    this.#pictures.show(image, name, "pictures");
    this.#changed();
  }

  /** Whether there is a picture; says that one is missing. */
  check() {
    if (!this.#name) this.#told("Choose a picture first.");
    return Boolean(this.#name);
  }

  async #given(file) {
    if (!TYPES.includes(file.type)) return this.#told(`“${file.name}” is no JPEG, PNG or WebP.`);
    if (file.size > this.#most) {
      return this.#told(`“${file.name}” has ${kilobytes(file.size)}; at most ${kilobytes(this.#most)} are taken.`);
    }
    try {
      this.set(await calls.bring(file));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#told([error.message, error.value, error.fix].filter(Boolean).join(" · "));
    }
  }

  #told(words) {
    this.#unfit.textContent = words;
    this.#unfit.hidden = !words;
  }
}

/** The dialog in which a picture of the corpus is looked for. */
class Library {
  #dialog = find("library");
  #text = find("library-text");
  #list = this.#dialog.querySelector("ul");
  #told = this.#dialog.querySelector("[role=status]");
  #pictures = new Pictures();
  #chosen = () => {};

  constructor() {
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search();
    });
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#pictures.close());
  }

  open(chosen) {
    this.#chosen = chosen;
    this.#list.replaceChildren();
    this.#told.textContent = "";
    this.#dialog.showModal();
    this.#text.focus();
    if (this.#text.value) this.#search();
  }

  async #search() {
    const words = this.#text.value.trim();
    if (!words) return;
    this.#pictures.close();
    this.#pictures = new Pictures();
    try {
      const found = await calls.search(words);
      this.#told.textContent = found.length ? plural(found.length, "picture") : "Nothing like that may be shown to you.";
      this.#list.replaceChildren(...found.map((one) => this.#item(one)));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#told.textContent = [error.message, error.fix].filter(Boolean).join(": ");
    }
  }

  #item({ uid, description }) {
    const image = element("img", { alt: description, draggable: "false" });
    const frame = element("span", { class: "frame" }, image);
    this.#pictures.show(image, uid);
    const take = async () => {
      try {
        this.#chosen(await calls.take(uid));
        this.#dialog.close();
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        this.#told.textContent = [error.message, error.fix].filter(Boolean).join(": ");
      }
    };
    return element("li", {}, button({ class: "card", title: description }, take, frame, description));
  }
}

const library = new Library();
