// What was made, the newest first: pictures side by side, words, whom to credit, and the command that repeats it.

import * as calls from "./calls.js";
import { overlay } from "./boxes.js";
import { button, element, icon } from "./elements.js";
import { described } from "./neighbors.js";
import { Pictures } from "./pictures.js";
import { plural, score } from "./words.js";

const MOST = 12; // results of a tab that stay
const COPIED_MS = 2000;
const USES = { edit: "Edit", ask: "Ask", caption: "Caption", infill: "Infill" };

export class Results {
  #list;
  #cards = [];
  #use;

  /** `use(tab, name)` takes a picture to another tab. */
  constructor(list, use) {
    this.#list = list;
    this.#use = use;
  }

  /** `input`, `mask`: names of pictures that were given; `things`: boxes that were asked for. */
  add(answer, wish, { title, input = null, mask = null, things = null }) {
    const pictures = new Pictures();
    const facts = [`seed ${wish.seed}`, ...sampled(answer), `${answer.seconds} s`];
    const card = element(
      "article",
      { class: "result" },
      element("h3", {}, title),
      element("p", { class: "note" }, facts.join(" · ")),
      answer.words === undefined ? null : said(answer.words),
      this.#row(answer, { input, mask, things }, pictures),
      answer.prompt && answer.prompt !== title ? element("p", { class: "note prompt" }, `Prompt: ${answer.prompt}`) : null,
      ...credits(answer, wish, pictures),
      ...again(answer, [input, mask]),
    );
    this.#cards.unshift({ card, pictures });
    this.#list.prepend(card);
    // What was made may lie below the window, where the form stands over it, or above older results.
    const { top } = card.getBoundingClientRect();
    if (top < 0 || top > innerHeight - 100) card.scrollIntoView();
    for (const old of this.#cards.splice(MOST)) {
      old.pictures.close();
      old.card.remove();
    }
  }

  #row(answer, { input, mask, things }, pictures) {
    const names = answer.files ? singles(answer) : [];
    const before = input ? [figure(input, "Given", pictures)] : [];
    if (mask) before.push(figure(mask, "Mask: white is drawn anew", pictures));
    const drawn = names.map((name, place) => {
      const near = answer.scores ? ` · score ${score(answer.scores[place])}` : "";
      const told = `${names.length > 1 ? `${place + 1}` : "Drawn"}${near}`;
      return figure(name, told, pictures, things, this.#acts(name));
    });
    const row = element("ul", { class: answer.files ? "row" : "row small" }, ...[...before, ...drawn].map((one) => element("li", {}, one)));
    if (!things) return row;
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => row.classList.toggle("bare", !box.checked));
    return element("div", {}, element("label", { class: "switch" }, box, "Boxes over the picture"), row);
  }

  #acts(name) {
    const uses = Object.entries(USES).map(([tab, title]) => button({ class: "plain" }, () => this.#use(tab, name), title));
    const menu = element("details", { class: "use" }, element("summary", {}, "Use in"), ...uses);
    return element("span", { class: "acts" }, menu, button({ class: "plain" }, () => calls.save(name), "Save"));
  }
}

/** The pictures one by one: the first file is what the command writes, with all of them side by side. */
function singles({ files }) {
  return files.length > 1 ? files.slice(1) : files;
}

function sampled({ files, scores }) {
  if (!files) return [];
  const order = scores?.length > 1 ? ["the best first, as the encoder scores words with pictures"] : [];
  return [plural(files.length > 1 ? files.length - 1 : 1, "sample"), ...order];
}

function figure(name, told, pictures, things = null, acts = null) {
  const image = element("img", { alt: told, draggable: "false" });
  const frame = element("span", { class: "frame" }, image, things && overlay(things));
  pictures.show(image, name, "pictures");
  return element("figure", {}, frame, element("figcaption", {}, told), acts);
}

/** Nothing is said too: a model may find no words. */
function said(words) {
  return words.trim() ? element("p", { class: "said" }, words) : element("p", { class: "said note" }, "No words.");
}

function credits({ neighbors, words }, wish, pictures) {
  if (wish.neighbors === undefined) return [];
  const made = words === undefined ? "Drawn" : "Written";
  if (!neighbors.length) return [element("p", { class: "note" }, `${made} without neighbors.`)];
  const items = neighbors.map((one) => element("li", {}, ...described(one, pictures)));
  return [element("h4", {}, `${made} beside`), element("ul", { class: "neighbors" }, ...items)];
}

function again({ command, files = [] }, given) {
  const line = element("code", {}, command);
  const told = element("span", { role: "status", class: "unseen" });
  const copy = button({ class: "copy" }, () => copies(line, copy, told), icon("copy"), "Copy the command");
  const kept = given.filter(Boolean);
  const needed = kept.length ? `It reads ${kept.join(" and ")}: save ${kept.length > 1 ? "them" : "it"} where you run it.` : "";
  const saves = [...kept, ...files.slice(0, 1)].map((name) => button({ class: "plain" }, () => calls.save(name), `Save ${name}`));
  return [
    element("div", { class: "again" }, line, copy, told),
    element("p", { class: "saves" }, needed && element("span", { class: "note" }, needed), ...saves),
  ];
}

/** Where the page is not served by https or loopback there is no clipboard, and the text is selected instead. */
async function copies(line, copy, told) {
  if (!navigator.clipboard) {
    getSelection().selectAllChildren(line);
    told.textContent = "Selected: copy it with Ctrl+C";
    return;
  }
  await navigator.clipboard.writeText(line.textContent);
  told.textContent = "Copied";
  copy.classList.add("done");
  setTimeout(() => copy.classList.remove("done"), COPIED_MS);
}
