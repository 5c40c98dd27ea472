// The playground: a tab for each thing that the model can be asked for, each with a form and its results.

import { Refused, token } from "./api.js";
import { Boxes } from "./boxes.js";
import { Brush } from "./brush.js";
import * as calls from "./calls.js";
import { Chooser } from "./chooser.js";
import { field, Settings, words } from "./controls.js";
import { Door } from "./door.js";
import { button, element, find } from "./elements.js";
import { done } from "./job.js";
import { followed, Neighbors } from "./neighbors.js";
import { Results } from "./results.js";
import { Tabs } from "./tabs.js";

const DRAWN = ["guidance", "temperature", "top_p"];
const EDITED = ["image_guidance", "text_guidance", "temperature", "top_p"];
const SAID = ["temperature", "top_p", "max_text_tokens"];
const NAMES = { draw: "Draw", edit: "Edit", ask: "Ask", caption: "Caption", ground: "Ground", infill: "Infill" };
const choosers = {};
let tabs = null;

const door = new Door({ entered: begin, left: () => location.reload() });

async function begin() {
  const trouble = find("trouble");
  try {
    trouble.hidden = true;
    start(await calls.facts());
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return door.open();
    trouble.replaceChildren(...told(error), button({}, begin, "Try again"));
    trouble.hidden = false;
  }
}

function start(facts) {
  find("corpus").textContent = facts.corpus;
  find("about").textContent = `${facts.run}${facts.tuned ? "" : ", not tuned"}`;
  const { checkpoint, run } = facts.model;
  find("model").textContent = `Run ${run.slice(0, 12)}, ${checkpoint}, beside version ${facts.version} of the corpus. ${facts.num_tokens} tokens a picture of ${facts.side} px.`;
  find("leave").hidden = !token.kept();
  tabs = new Tabs(NAMES);
  for (const [name, make] of Object.entries({ draw, edit, ask, caption, ground, infill })) {
    new Panel(tabs.panel(name), make(facts));
  }
}

/** `nodes` of the form; `wish()` is what is asked for and how the result is headed, or null where something lacks. */
class Panel {
  #work = element("div", { class: "work", hidden: true });
  #wrong = element("div", { class: "wrong", role: "alert", hidden: true });
  #go;
  #results;
  #wish;
  #verb;

  constructor(panel, { nodes, verb, wish }) {
    this.#wish = wish;
    this.#verb = verb;
    this.#go = element("button", { type: "submit", class: "main" }, verb);
    const form = element("form", { class: "ask", "aria-label": verb }, ...nodes, element("div", { class: "go" }, this.#go, this.#work, this.#wrong));
    const list = element("div", { class: "results", role: "region", "aria-label": "Results" });
    this.#results = new Results(list, use);
    panel.append(form, list);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#go.disabled) this.#asked();
    });
  }

  async #asked() {
    this.#wrong.hidden = true;
    this.#go.disabled = true;
    try {
      const found = await this.#wish();
      if (!found) return;
      const answer = await done(found.wish, this.#work);
      if (answer) this.#results.add(answer, found.wish, found.shown);
    } catch (error) {
      if (error instanceof Error && !(error instanceof Refused)) throw error;
      if (error.status === 401) return door.open();
      this.#wrong.replaceChildren(...told(error));
      this.#wrong.hidden = false;
    } finally {
      this.#go.disabled = false;
    }
  }
}

/** What the service said, word for word. */
function told(error) {
  const { value, fix } = error;
  const lines = [element("p", {}, error.message ?? error.error)];
  if (value) lines.push(element("p", { class: "note" }, value));
  if (fix) lines.push(element("p", { class: "note" }, fix));
  return lines;
}

function use(name, picture) {
  choosers[name].set(picture);
  tabs.open(name);
  find(`tab-${name}`).focus();
}

/** Those that are near to the words of a control. */
function near_to(text, facts) {
  const near = new Neighbors(facts, (count, signal) => {
    const said = text.value.trim();
    return said ? calls.neighbors(said, count, signal) : null;
  });
  followed(text, near);
  return near;
}

function draw(facts) {
  const text = words({ required: true, placeholder: "such as: a red circle" });
  const near = near_to(text, facts);
  const settings = new Settings(DRAWN, facts, Math.min(4, facts.max_samples));
  return {
    nodes: [field("What to draw", text), ...near.nodes, ...settings.nodes],
    verb: "Draw",
    wish() {
      const wish = { task: "draw", text: text.value.trim(), ...near.read(), ...settings.read() };
      return { wish, shown: { title: wish.text } };
    },
  };
}

/** A tab that is about one picture; `controls` hold the words. */
function pictured(name, facts, { verb, controls, settings, wish, changed }) {
  choosers[name] = new Chooser(facts, changed);
  return {
    nodes: [choosers[name].node, ...controls, ...settings.nodes],
    verb,
    wish() {
      if (!choosers[name].check()) return null;
      const image = choosers[name].name;
      const { title, ...asked } = wish();
      return { wish: { task: name, image, ...asked, ...settings.read() }, shown: { title, input: image } };
    },
  };
}

function edit(facts) {
  const text = words({ required: true, placeholder: "such as: change the color of the sky to bright blue" });
  const settings = new Settings(EDITED, facts, 1);
  const wish = () => ({ title: text.value.trim(), instruction: text.value.trim() });
  return pictured("edit", facts, { verb: "Edit", controls: [field("Instruction", text)], settings, wish });
}

function ask(facts) {
  const text = words({ required: true, rows: "2", placeholder: "such as: What color is it?" });
  const settings = new Settings(SAID, facts);
  const wish = () => ({ title: text.value.trim(), question: text.value.trim() });
  return pictured("ask", facts, { verb: "Ask", controls: [field("Question", text)], settings, wish });
}

function caption(facts) {
  const long = element("input", { type: "checkbox" });
  const near = new Neighbors(facts, (count, signal) => {
    const { name } = choosers.caption;
    return name && !long.checked ? calls.alike(name, count, signal) : null;
  });
  const beside = element("div", {}, ...near.nodes);
  const changed = () => near.changed();
  long.addEventListener("change", () => {
    beside.hidden = long.checked; // a long caption is an instruction, and those were learnt without neighbors
    changed();
  });
  const settings = new Settings(SAID, facts);
  const controls = [element("p", { class: "field" }, element("label", { class: "switch" }, long, "Long, with all that there is")), beside];
  const wish = () => (long.checked ? { title: "A long caption", long: true } : { title: "A caption", ...near.read() });
  return pictured("caption", facts, { verb: "Caption", controls, settings, wish, changed });
}

function ground(facts) {
  const text = words({ required: true, rows: "2", placeholder: "such as: a kitchen" });
  const prompt = element("p", { class: "note prompt", "aria-live": "off" });
  const say = (things) => {
    const placed = things.map(({ name, x0, y0, x1, y1 }) => `${name || "…"} at (${x0}, ${y0}) -> (${x1}, ${y1})`);
    const scene = text.value.trim() || "…";
    prompt.textContent = `Generate high quality image of ${scene} with segmentations ${placed.join(", ") || "…"}`;
  };
  const boxes = new Boxes(facts, say);
  text.addEventListener("input", () => say(boxes.things));
  const settings = new Settings(DRAWN, facts, Math.min(4, facts.max_samples));
  return {
    nodes: [field("What the picture shows", text), ...boxes.nodes, prompt, ...settings.nodes],
    verb: "Draw",
    wish() {
      if (!boxes.check()) return null;
      const { things } = boxes;
      const wish = { task: "ground", caption: text.value.trim(), things, ...settings.read() };
      return { wish, shown: { title: wish.caption, things } };
    },
  };
}

function infill(facts) {
  const brush = new Brush(facts);
  const chooser = new Chooser(facts, () => chooser.frame.append(brush.canvas));
  choosers.infill = chooser;
  const text = words({ rows: "2", placeholder: "what the whole picture shows; may be left out" });
  const near = near_to(text, facts);
  const settings = new Settings(DRAWN, facts, 1);
  return {
    nodes: [chooser.node, ...brush.nodes, field("Words", text), ...near.nodes, ...settings.nodes],
    verb: "Fill in",
    async wish() {
      if (!chooser.check() || !brush.check()) return null;
      const [image, mask] = [chooser.name, await calls.mask(await brush.png())];
      const wish = { task: "infill", image, mask, text: text.value.trim(), ...near.read(), ...settings.read() };
      return { wish, shown: { title: wish.text || "Filled in without words", input: image, mask } };
    },
  };
}

begin();
