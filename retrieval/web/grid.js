// The results, set as a page of photographs, and the keys that walk over them.
//
// One picture at a time can be reached by Tab; arrows go on from there, up and down to what lies nearest.

import { element, find, unseen } from "./elements.js";
import { ratio, rows } from "./layout.js";
import { Pictures } from "./pictures.js";
import { named, score } from "./words.js";

const TALLEST_SHARE = 0.5; // of the width: two or three pictures a row at 390 px

export class Grid {
  #list = find("grid");
  #results = [];
  #tiles = [];
  #rows = [];
  #pictures = new Pictures();
  #current = 0;
  #goal = null; // where up and down aim at, in pixels from the left
  #width = 0;

  /** `address(uid)` is where a result's link leads. */
  constructor({ address, open, alike }) {
    this.address = address;
    new ResizeObserver(([entry]) => this.#resized(entry.contentRect.width)).observe(this.#list);
    find("size").addEventListener("input", () => this.#set());
    this.#list.addEventListener("keydown", (event) => this.#pressed(event, alike));
    this.#list.addEventListener("focusin", ({ target }) => this.#focused(target));
    this.#list.addEventListener("click", (event) => {
      const place = this.#tiles.findIndex((tile) => tile.contains(event.target));
      if (place < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(this.#results[place].uid);
    });
  }

  get uids() {
    return this.#results.map(({ uid }) => uid);
  }

  result(uid) {
    return this.#results.find((one) => one.uid === uid) ?? null;
  }

  thumbnail(uid) {
    return this.#pictures.at(uid);
  }

  /** The uid of the result one before or after, or null. */
  beside(uid, step) {
    const place = this.uids.indexOf(uid);
    return place < 0 ? null : (this.uids[place + step] ?? null);
  }

  show(results) {
    const pictures = new Pictures();
    pictures.inherit(this.#pictures, results.map(({ uid }) => uid));
    this.#pictures.close();
    this.#pictures = pictures;
    this.#results = results;
    this.#tiles = results.map((result, place) => this.#tile(result, place));
    this.#list.replaceChildren(...this.#tiles);
    this.#list.hidden = !results.length;
    this.#reach(0);
    this.#set();
    for (const [place, { uid }] of results.entries()) pictures.show(this.#tiles[place].querySelector("img"), uid);
  }

  /** Whether the result is among these, and has the focus now. */
  focus(uid) {
    return this.focusAt(this.uids.indexOf(uid));
  }

  focusAt(place) {
    if (!this.#tiles[place]) return false;
    this.#reach(place);
    this.#link(place).focus();
    return true;
  }

  #tile(result, place) {
    const { uid, description, contributor } = result;
    const spoken = { "aria-labelledby": `c${place}`, "aria-describedby": `f${place} s${place}` };
    const link = element(
      "a",
      { href: this.address(uid), tabindex: "-1", ...spoken },
      element("span", { class: "frame" }, element("img", { alt: description, draggable: "false" })),
      element(
        "span",
        { class: "line" },
        element("span", { class: "caption", id: `c${place}`, title: description }, description),
        element("span", { class: "score", id: `s${place}` }, unseen("score "), score(result.score)),
      ),
      element("span", { class: "line from", id: `f${place}` }, license(result), element("span", {}, contributor)),
    );
    return element("li", {}, link);
  }

  #resized(width) {
    if (width && Math.floor(width) !== this.#width) this.#set();
  }

  #set() {
    // Not clientWidth: it may be rounded up, and then the last picture of every row falls into the next.
    this.#width = Math.floor(this.#list.getBoundingClientRect().width);
    if (!this.#width || !this.#results.length) return;
    const gap = Number.parseFloat(getComputedStyle(this.#list).columnGap);
    const target = Math.min(Number(find("size").value), this.#width * TALLEST_SHARE);
    this.#rows = rows(this.#results.map(ratio), { width: this.#width, target, gap });
    let place = 0;
    for (const { height, widths } of this.#rows) {
      for (const width of widths) {
        const { style } = this.#tiles[place];
        style.setProperty("--wide", `${width}px`);
        style.setProperty("--high", `${height}px`);
        place += 1;
      }
    }
  }

  #link(place) {
    return this.#tiles[place].firstElementChild;
  }

  #reach(place) {
    if (this.#tiles[this.#current]) this.#link(this.#current).tabIndex = -1;
    this.#current = place;
    if (this.#tiles[place]) this.#link(place).tabIndex = 0;
  }

  #focused(target) {
    const place = this.#tiles.findIndex((tile) => tile.contains(target));
    if (place < 0 || place === this.#current) return;
    this.#goal = null;
    this.#reach(place);
  }

  #pressed(event, alike) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "m") {
      event.preventDefault();
      return alike(this.#results[this.#current].uid);
    }
    const place = this.#step(event.key);
    if (place === null) return;
    event.preventDefault();
    this.focusAt(place);
  }

  /** Where a key leads from the picture that has the focus; null if it leads nowhere. */
  #step(key) {
    const last = this.#tiles.length - 1;
    if (key === "ArrowUp" || key === "ArrowDown") return this.#across(key === "ArrowUp" ? -1 : 1);
    const to = { ArrowLeft: this.#current - 1, ArrowRight: this.#current + 1, Home: 0, End: last }[key];
    if (to === undefined) return null;
    this.#goal = null;
    return Math.min(Math.max(to, 0), last);
  }

  #across(step) {
    const starts = this.#rows.map((_, number) =>
      this.#rows.slice(0, number).reduce((total, { widths }) => total + widths.length, 0),
    );
    const row = starts.findLastIndex((start) => start <= this.#current);
    const other = this.#rows[row + step];
    if (!other) return null;
    const center = (place) => this.#tiles[place].offsetLeft + this.#tiles[place].offsetWidth / 2;
    this.#goal ??= center(this.#current);
    const places = other.widths.map((_, number) => starts[row + step] + number);
    const away = (place) => Math.abs(center(place) - this.#goal);
    return places.reduce((best, place) => (away(place) < away(best) ? place : best));
  }
}

/** Several are told by the first and how many more. */
function license({ licenses: [first = "", ...others] }) {
  const words = [named("license", first), ...(others.length ? [`+${others.length}`] : [])].join(" ");
  return element("span", { title: [first, ...others].join(", ") }, words);
}
