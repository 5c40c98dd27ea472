// One asset, large, in a dialog: its picture, what is known of it, and what training retrieved for it.
//
// The surprising rule: what a list of results told is shown at once, and the service is asked again all the same. An
// asset that was revoked since is not shown a second time.

import { asset, Refused } from "./api.js";
import { element, find, writing } from "./elements.js";
import { facts, list, title } from "./facts.js";
import { inspect } from "./inspector.js";
import { Pictures } from "./pictures.js";

const LARGEST = 2; // times its own width: larger, a picture of 256 pixels is a blur

export class Detail {
  #dialog = find("asset");
  #facts = this.#dialog.querySelector(".facts");
  #image = this.#dialog.querySelector(".stage img");
  #pictures = new Pictures();
  #ending = new AbortController();
  #uid = "";
  #result = null;

  /**
   * `found(uid)` is a result that is at hand, or null, and `thumbnail(uid)` the address of its picture;
   * `beside(uid, step)` is the uid before or after it, or null. `open(uid)`, `alike(uid)`, `search(words)`,
   * `closed(uid)` and `failed(error)` say what the person wants, or what went wrong.
   */
  constructor(page) {
    this.page = page;
    const dialog = this.#dialog;
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.querySelector(".before").addEventListener("click", () => this.#step(-1));
    dialog.querySelector(".after").addEventListener("click", () => this.#step(1));
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => this.#pressed(event));
    dialog.addEventListener("close", () => {
      const uid = this.#uid;
      this.#let();
      if (uid) page.closed(uid);
    });
  }

  /** Of what lies open; "" if nothing does. */
  get uid() {
    return this.#uid;
  }

  /** What lies open, if it is this one. */
  result(uid) {
    return this.#result?.uid === uid ? this.#result : null;
  }

  async open(uid, { examples }) {
    this.#let();
    this.#uid = uid;
    this.#pictures = new Pictures();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const known = this.page.found(uid);
    if (known) this.#drawn(known, examples);
    else this.#facts.replaceChildren(title("…"));
    if (!this.#dialog.open) this.#dialog.showModal();
    try {
      const told = await asset(uid, signal);
      if (!known) this.#drawn(told, examples);
      else if (told.reasons.length) this.#reasoned({ ...known, ...told });
    } catch (error) {
      if (!signal.aborted) this.#absent(error);
    }
  }

  close() {
    this.#let();
    this.#dialog.close();
  }

  #let() {
    this.#uid = "";
    this.#result = null;
    this.#ending.abort();
    this.#cleared();
  }

  #cleared() {
    const image = this.#image;
    this.#pictures.close();
    image.removeAttribute("src");
    image.alt = "";
    image.classList.remove("shown");
    delete image.parentElement.dataset.missing;
  }

  #drawn(result, examples) {
    this.#result = result;
    this.#pictured(result);
    for (const [name, step] of Object.entries({ ".before": -1, ".after": 1 })) {
      this.#dialog.querySelector(name).disabled = !this.page.beside(result.uid, step);
    }
    const retrieved = examples ? [this.#retrieved(result)] : [];
    this.#facts.replaceChildren(...this.#told(result), ...retrieved);
    this.#facts.scrollTop = 0;
    // The button that was pressed may be disabled now, and the candidate gone: without the focus no key is heard.
    if (!this.#dialog.querySelector(":focus:enabled, .facts:focus")) this.#facts.focus();
  }

  #reasoned(result) {
    this.#facts.querySelector("dl").replaceWith(list(result, this.page.search));
  }

  #told(result) {
    return facts(result, { alike: () => this.page.alike(result.uid), search: this.page.search });
  }

  #pictured({ uid, description, width, height }) {
    const image = this.#image;
    const small = this.page.thumbnail(uid);
    if (small) image.src = small; // until the large one is there
    image.classList.toggle("shown", Boolean(small));
    image.style.setProperty("--most", `${LARGEST * width}px`);
    Object.assign(image, { alt: description, width, height });
    this.#pictures.show(image, uid, "images");
  }

  #absent(error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return this.page.failed(error);
    const gone = error.status === 404;
    if (!gone && this.#result) return; // what is shown stays: the service only was too busy to say it again
    this.#cleared();
    const words = gone ? "It may be unknown, taken back since, or not for this use." : `${error.value} ${error.fix}`;
    const told = gone ? "No such picture is shown to you." : error.message;
    this.#facts.replaceChildren(title(told), element("p", {}, words));
  }

  #retrieved({ uid }) {
    const place = element("div", {}, element("p", { class: "note" }, "…"));
    const heading = element("h3", { id: "retrieved" }, "What was retrieved for it");
    const { signal } = this.#ending;
    const words = { uid, signal, pictures: this.#pictures, address: this.page.address, open: this.page.open };
    inspect(place, words).catch((error) => {
      if (signal.aborted) return;
      if (!(error instanceof Refused)) throw error;
      const none = error.status === 404 ? "Nothing: it is the target of no training example." : "";
      place.replaceChildren(element("p", { class: "note" }, none || `${error.message} ${error.fix}`));
    });
    return element("section", { class: "retrieved", "aria-labelledby": "retrieved" }, heading, place);
  }

  #step(step) {
    const next = this.page.beside(this.#uid, step);
    if (next) this.page.open(next);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || writing(event.target)) return;
    if (event.key === "ArrowLeft") this.#step(-1);
    else if (event.key === "ArrowRight") this.#step(1);
    else if (event.key.toLowerCase() === "m") this.page.alike(this.#uid);
  }
}
