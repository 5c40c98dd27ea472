// What is to be drawn anew: brushed with the pointer or the keys, and shown as what it is, whole tokens.
//
// The surprising rule: the model draws tokens, not pixels. One that is touched at all is drawn anew as a whole, so the
// grid lies over the picture and says which these are; the service goes by the same rule.

import { field } from "./controls.js";
import { button, element } from "./elements.js";

const SEEN = 512; // pixels of the canvas, whatever the picture's side

export class Brush {
  #side;
  #grid;
  #mask; // of side x side: 1 where brushed
  #canvas = element("canvas", {
    width: String(SEEN),
    height: String(SEEN),
    tabindex: "0",
    role: "application",
    "aria-label": "Mask over the picture: arrow keys move the brush, Space paints, Backspace erases",
  });
  #size;
  #erase = element("input", { type: "checkbox" });
  #told = element("p", { class: "note", role: "status" });
  #at; // the brush, in pixels of the picture
  #painting = false;
  #keyed = false; // the brush is moved by keys, and has to be seen

  constructor({ side, grid }) {
    this.#side = side;
    this.#grid = grid;
    this.#mask = new Uint8Array(side * side);
    this.#at = { x: side / 2, y: side / 2 };
    const size = { type: "range", min: "1", max: String(Math.ceil(side / 2)), value: String(Math.ceil(side / 8)) };
    this.#size = element("input", size);
    this.#canvas.addEventListener("pointerdown", (event) => this.#down(event));
    this.#canvas.addEventListener("pointermove", (event) => this.#painting && this.#stroke(this.#place(event)));
    for (const kind of ["pointerup", "pointercancel"]) this.#canvas.addEventListener(kind, () => (this.#painting = false));
    this.#canvas.addEventListener("keydown", (event) => this.#pressed(event));
    this.#canvas.addEventListener("blur", () => {
      this.#keyed = false;
      this.#draw();
    });
    this.#draw();
  }

  get nodes() {
    const erase = element("label", { class: "switch" }, this.#erase, "Erase");
    const clear = button({ class: "plain" }, () => this.#all(0), "Clear");
    const all = button({ class: "plain" }, () => this.#all(1), "All of it");
    return [field("Brush size", this.#size), element("p", { class: "acts" }, erase, all, clear), this.#told];
  }

  get canvas() {
    return this.#canvas;
  }

  /** Which tokens [grid x grid] are drawn anew. */
  get tokens() {
    const found = new Array(this.#grid * this.#grid).fill(false);
    const on = (value) => Math.floor((value * this.#grid) / this.#side);
    for (let place = 0; place < this.#mask.length; place += 1) {
      if (this.#mask[place]) found[on(Math.floor(place / this.#side)) * this.#grid + on(place % this.#side)] = true;
    }
    return found;
  }

  check() {
    const brushed = this.#mask.includes(1);
    if (!brushed) this.#told.textContent = "Brush over what is to be drawn anew first.";
    return brushed;
  }

  /** White where it is brushed, black elsewhere: a PNG. */
  async png() {
    const canvas = new OffscreenCanvas(this.#side, this.#side);
    const image = new ImageData(this.#side, this.#side);
    this.#mask.forEach((one, place) => image.data.set([255 * one, 255 * one, 255 * one, 255], 4 * place));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  #all(value) {
    this.#mask.fill(value);
    this.#draw();
  }

  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return { x: ((clientX - left) / width) * this.#side, y: ((clientY - top) / height) * this.#side };
  }

  #down(event) {
    if (event.button) return;
    event.preventDefault();
    this.#canvas.focus();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#painting = true;
    this.#keyed = false;
    this.#at = this.#place(event);
    this.#dab(this.#at);
  }

  /** From where the brush was to there: a quick pointer leaves no gaps. */
  #stroke(to) {
    const from = this.#at;
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let step = 1; step <= steps; step += 1) {
      this.#paint({ x: from.x + ((to.x - from.x) * step) / steps, y: from.y + ((to.y - from.y) * step) / steps });
    }
    this.#at = to;
    this.#draw();
  }

  #dab(at, value = Number(!this.#erase.checked)) {
    this.#paint(at, value);
    this.#draw();
  }

  #paint({ x, y }, value = Number(!this.#erase.checked)) {
    const radius = this.#size.valueAsNumber / 2;
    const bound = (low) => Math.min(this.#side, Math.max(0, low));
    for (let row = bound(Math.floor(y - radius)); row < bound(Math.ceil(y + radius)); row += 1) {
      for (let column = bound(Math.floor(x - radius)); column < bound(Math.ceil(x + radius)); column += 1) {
        const inside = Math.hypot(column + 0.5 - x, row + 0.5 - y) <= Math.max(radius, 0.71);
        if (inside) this.#mask[row * this.#side + column] = value;
      }
    }
  }

  #pressed(event) {
    const step = this.#side / this.#grid / 2;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const value = { " ": 1, Backspace: 0, Delete: 0 }[event.key];
    if (!way && value === undefined) return;
    event.preventDefault();
    this.#keyed = true;
    const bound = (where) => Math.min(this.#side, Math.max(0, where));
    if (way) this.#at = { x: bound(this.#at.x + way[0]), y: bound(this.#at.y + way[1]) };
    if (value === undefined) this.#draw();
    else this.#dab(this.#at, value);
  }

  #draw() {
    const pen = this.#canvas.getContext("2d");
    const scale = SEEN / this.#side;
    const cell = SEEN / this.#grid;
    pen.clearRect(0, 0, SEEN, SEEN);
    const tokens = this.tokens;
    pen.fillStyle = "rgb(220 40 140 / 45%)";
    tokens.forEach((brushed, place) => {
      if (brushed) pen.fillRect((place % this.#grid) * cell, Math.floor(place / this.#grid) * cell, cell, cell);
    });
    pen.fillStyle = "rgb(255 255 255 / 55%)";
    this.#mask.forEach((one, place) => {
      if (one) pen.fillRect((place % this.#side) * scale, Math.floor(place / this.#side) * scale, scale, scale);
    });
    this.#lines(pen, cell);
    if (this.#keyed) this.#cursor(pen, scale);
    const count = tokens.filter(Boolean).length;
    const told = `${count} of ${tokens.length} tokens are drawn anew, those that the brush touches`;
    const between = "those between the first and the last are hidden from the model, and come back as given";
    this.#told.textContent = count ? `${told}; ${between}.` : `${told}.`;
  }

  #lines(pen, cell) {
    pen.strokeStyle = "rgb(128 128 128 / 35%)";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let line = 1; line < this.#grid; line += 1) {
      pen.moveTo(line * cell, 0);
      pen.lineTo(line * cell, SEEN);
      pen.moveTo(0, line * cell);
      pen.lineTo(SEEN, line * cell);
    }
    pen.stroke();
  }

  #cursor(pen, scale) {
    for (const [width, color] of [[5, "white"], [2, "black"]]) {
      pen.lineWidth = width;
      pen.strokeStyle = color;
      pen.beginPath();
      pen.arc(this.#at.x * scale, this.#at.y * scale, Math.max(4, (this.#size.valueAsNumber / 2) * scale), 0, 2 * Math.PI);
      pen.stroke();
    }
  }
}
