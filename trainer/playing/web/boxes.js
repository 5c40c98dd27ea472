// Things at places: boxes on a square of 256, drawn with the pointer or written as numbers.
//
// The surprising rule: a click is a thing too. It gets a box of a usual size around the point.

import { field, number } from "./controls.js";
import { button, element } from "./elements.js";

export const GRID = 256;
const USUAL = 80; // pixels a side of a clicked thing's box: those in instruction data have 77 to 128
const LEAST = 6; // a pointer that moved less has clicked
const SVG = "http://www.w3.org/2000/svg";
const SIDES = ["x0", "y0", "x1", "y1"];

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Boxes with their names, to lie over a square picture. */
export function overlay(things) {
  const groups = things.map(({ name, x0, y0, x1, y1 }, place) => {
    const rect = drawn("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
    const above = y0 > 16 ? y0 - 5 : y0 + 13;
    // On the right half it ends with its box, so that it does not run out of the picture.
    const beside = x0 + x1 > GRID ? { x: x1 - 2, "text-anchor": "end" } : { x: x0 + 2 };
    return drawn("g", { class: `box n${place % 4}` }, rect, drawn("text", { ...beside, y: above }, name));
  });
  return drawn("svg", { viewBox: `0 0 ${GRID} ${GRID}`, class: "boxes", "aria-hidden": "true" }, ...groups);
}

export class Boxes {
  #things = [];
  #most;
  #stage = element("div", { class: "stage256", role: "img", "aria-label": "Where things shall be: click or drag here, or add one below" });
  #list = element("ol", { class: "things", "aria-label": "Things" });
  #add;
  #told = element("p", { class: "unfit", role: "alert", hidden: true });
  #pulled = null; // what the pointer does: {from, thing, moved}
  #changed;

  constructor({ max_things }, changed) {
    this.#most = max_things;
    this.#changed = changed;
    this.#add = button({}, () => this.#put(around(GRID / 2, GRID / 2)), "Add a thing");
    this.#stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.#stage.addEventListener("pointermove", (event) => this.#moved(event));
    for (const kind of ["pointerup", "pointercancel"]) this.#stage.addEventListener(kind, () => (this.#pulled = null));
    this.#draw();
  }

  get nodes() {
    return [this.#stage, this.#told, this.#list, element("p", { class: "acts" }, this.#add)];
  }

  get things() {
    return this.#things.map(({ name, ...box }) => ({ name: name.trim(), ...box }));
  }

  check() {
    if (!this.#things.length) this.#say("Put at least one thing on the square.");
    return this.#things.length > 0;
  }

  #say(words) {
    this.#told.textContent = words;
    this.#told.hidden = !words;
  }

  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.#stage.getBoundingClientRect();
    const on = (value, all) => Math.min(GRID, Math.max(0, Math.round((value / all) * GRID)));
    return { x: on(clientX - left, width), y: on(clientY - top, height) };
  }

  #down(event) {
    if (event.button) return;
    event.preventDefault();
    const from = this.#at(event);
    const hit = this.#things.findLast(({ x0, y0, x1, y1 }) => x0 <= from.x && from.x < x1 && y0 <= from.y && from.y < y1);
    const thing = hit ?? this.#put(around(from.x, from.y));
    if (!thing) return;
    this.#stage.setPointerCapture(event.pointerId);
    this.#pulled = { from, thing, start: { ...thing }, anew: !hit };
  }

  #moved(event) {
    if (!this.#pulled) return;
    const { from, thing, start, anew } = this.#pulled;
    const to = this.#at(event);
    if (anew && Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y)) < LEAST) return;
    if (anew) Object.assign(thing, spanned(from, to));
    else Object.assign(thing, shifted(start, to.x - from.x, to.y - from.y));
    this.#draw();
    this.#numbers(thing);
  }

  #put(box) {
    if (this.#things.length === this.#most) {
      this.#say(`At most ${this.#most} things have a place.`);
      return null;
    }
    this.#say("");
    const thing = { name: "", ...box };
    this.#things.push(thing);
    this.#draw();
    this.#list.append(this.#item(thing));
    this.#list.lastElementChild.querySelector("input").focus();
    return thing;
  }

  #item(thing) {
    const name = element("input", { type: "text", required: true, maxlength: "60", autocomplete: "off", placeholder: "such as: a red circle" });
    name.value = thing.name;
    name.addEventListener("input", () => {
      thing.name = name.value;
      this.#draw();
    });
    const sides = SIDES.map((side) => {
      const input = number({ min: "0", max: String(GRID), step: "1", value: String(thing[side]), "data-side": side });
      input.addEventListener("change", () => {
        thing[side] = input.valueAsNumber || 0;
        this.#valid(thing);
        this.#draw();
      });
      return field(side, input);
    });
    const take = button({ class: "plain" }, () => this.#take(thing), "Remove");
    const item = element("li", {}, field("Thing", name), element("div", { class: "sides" }, ...sides), take);
    thing.item = item;
    Object.defineProperty(thing, "item", { enumerable: false });
    return item;
  }

  #take(thing) {
    this.#things = this.#things.filter((one) => one !== thing);
    thing.item.remove();
    this.#draw();
    this.#add.focus();
  }

  #numbers(thing) {
    for (const input of thing.item.querySelectorAll("[data-side]")) input.value = String(thing[input.dataset.side]);
    this.#valid(thing);
  }

  #valid(thing) {
    const wrong = thing.x0 < thing.x1 && thing.y0 < thing.y1 ? "" : "x0 lies left of x1, and y0 above y1.";
    for (const input of thing.item.querySelectorAll("[data-side]")) input.setCustomValidity(wrong);
  }

  #draw() {
    this.#stage.replaceChildren(overlay(this.#things));
    this.#changed(this.things);
  }
}

function around(x, y) {
  const low = (value) => Math.min(GRID - USUAL, Math.max(0, Math.round(value - USUAL / 2)));
  return { x0: low(x), y0: low(y), x1: low(x) + USUAL, y1: low(y) + USUAL };
}

function spanned(a, b) {
  const [x0, x1] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
  const [y0, y1] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
  return { x0: Math.min(x0, GRID - 1), y0: Math.min(y0, GRID - 1), x1: Math.max(x1, x0 + 1), y1: Math.max(y1, y0 + 1) };
}

function shifted({ x0, y0, x1, y1 }, right, down) {
  const across = Math.min(GRID - x1, Math.max(-x0, right));
  const along = Math.min(GRID - y1, Math.max(-y0, down));
  return { x0: x0 + across, y0: y0 + along, x1: x1 + across, y1: y1 + along };
}
