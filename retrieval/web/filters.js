// What the caller may narrow by. Values and counts come once, with the facts; choosing one asks anew.

import { button, element, find, icon } from "./elements.js";
import { FACETS, narrowed, RIGHTS, UNFILTERED } from "./state.js";
import { counted, named, plural } from "./words.js";

const SHORT = 6; // values of a facet that are seen before the rest is asked for
const MANY = 12; // from here on one types a part of the name
const FOUND = 40;
const WIDE = matchMedia("(min-width: 60rem)");

export class Filters {
  #form = find("filters");
  #drawer = find("drawer");
  #facets = new Map();

  /** `change({category: ["food"]})` when somebody narrows or loosens. */
  constructor(change) {
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.change = change;
    find("narrow").addEventListener("click", () => this.#opened());
    WIDE.addEventListener("change", () => this.#placed());
    for (const name of [".close", ".done"]) {
      this.#drawer.querySelector(name).addEventListener("click", () => this.#drawer.close());
    }
    this.#drawer.addEventListener("close", () => this.#placed());
    this.#placed();
  }

  /** Again when the rights change: what has the focus, is unfolded or typed stays so. */
  offer({ facets, facets_left_out = {}, dates, narrower }) {
    const before = new Map(this.#facets);
    const focused = document.activeElement?.closest("#filters fieldset")?.className;
    const { type, value } = document.activeElement ?? {};
    this.#facets.clear();
    for (const facet of FACETS) {
      const left_out = facets_left_out[facet.name] ?? 0;
      this.#offered(facet, { values: facets[facet.name] ?? [], left_out });
    }
    for (const facet of RIGHTS) this.#offered(facet, narrowing(facet.name, narrower[facet.name]));
    const dated = dates.first ? [this.#dated(dates)] : [];
    for (const [name, facet] of this.#facets) facet.goOn(before.get(name));
    this.#form.replaceChildren(...[...this.#facets.values()].map(({ box }) => box), ...dated);
    if (focused) this.#facets.get(focused)?.focus(type, value);
  }

  show(state) {
    for (const [name, facet] of this.#facets) facet.show(state[name]);
    for (const name of ["since", "until"]) if (find(name)) find(name).value = state[name];
    const badge = find("narrowed");
    const number = narrowed(state).length;
    badge.hidden = !number;
    badge.textContent = counted(number);
    badge.setAttribute("aria-label", plural(number, "filter is set", "filters are set"));
  }

  /** What the button of the drawer says: how many it would show. */
  told(words) {
    this.#drawer.querySelector(".done").textContent = words;
  }

  #offered(facet, words) {
    if (!words.values.length) return;
    const change = (chosen) => this.change({ [facet.name]: chosen });
    this.#facets.set(facet.name, new Facet(facet, { ...words, change }));
  }

  #dated({ first, last }) {
    const field = (name, title) => {
      const input = element("input", { type: "date", id: name, min: first, max: last });
      input.addEventListener("change", () => input.checkValidity() && this.change({ [name]: input.value }));
      return element("label", {}, element("span", {}, title), input);
    };
    return element(
      "fieldset",
      { class: "dates" },
      element("legend", {}, "Date"),
      field("since", "From"),
      field("until", "To"),
    );
  }

  /** A column that folds where there is room, a drawer where there is none. */
  #opened() {
    const aside = find("aside");
    if (WIDE.matches) aside.hidden = !aside.hidden;
    else this.#drawer.showModal();
    this.#placed();
  }

  #placed() {
    if (WIDE.matches && this.#drawer.open) return this.#drawer.close(); // comes back by its close event
    const place = this.#drawer.open ? this.#drawer.querySelector(".place") : find("aside");
    if (this.#form.parentElement !== place) place.append(this.#form);
    const open = WIDE.matches ? !find("aside").hidden : this.#drawer.open;
    find("narrow").setAttribute("aria-expanded", String(open));
  }
}

/** What a token may narrow itself to: all of it seen, or typed where it is much. */
function narrowing(name, codes) {
  const values = codes.map((value) => ({ value }));
  values.sort((one, other) => named(name, one.value).localeCompare(named(name, other.value), "en"));
  return { values, short: values.length > MANY ? 0 : values.length };
}

class Facet {
  #chosen = [];
  #all = false;
  #typed = "";

  /** The `short` most frequent `values` are seen at once; none of them where they are to be typed. */
  constructor({ name, title }, { values, left_out = 0, short = SHORT, change }) {
    Object.assign(this, { name, values, left_out, short, change });
    this.list = element("ul");
    this.rest = button({ class: "plain" }, () => this.#unfolded());
    const searched = values.length > MANY || left_out ? [this.#search(title)] : [];
    this.note = element("p", { class: "note", role: "status" });
    const legend = element("legend", {}, title);
    this.box = element("fieldset", { class: name }, legend, ...searched, this.list, this.rest, this.note);
  }

  show(chosen) {
    this.#chosen = chosen;
    this.#drawn();
  }

  /** As the one that it takes the place of was left. */
  goOn(before) {
    if (!before) return;
    [this.#chosen, this.#all, this.#typed] = [before.#chosen, before.#all, before.#typed];
    const field = this.box.querySelector("input[type=search]");
    if (field) field.value = this.#typed;
    this.#drawn();
  }

  focus(type, value) {
    const same = [...this.box.querySelectorAll("input")].find((one) => one.type === type && one.value === value);
    (same ?? this.box.querySelector("input"))?.focus();
  }

  #search(title) {
    const label = this.name === "territory" ? "Find a country" : `Find a ${title.toLowerCase()}`;
    const input = element("input", { type: "search", "aria-label": label, placeholder: label, autocomplete: "off" });
    input.addEventListener("input", () => {
      this.#typed = input.value.trim();
      this.#drawn();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !this.#typed) return;
      event.preventDefault();
      const added = this.#matching()[0]?.value ?? (this.left_out ? this.#typed : null);
      if (added === null) return;
      [input.value, this.#typed] = ["", ""];
      this.#toggled(added, true);
    });
    return input;
  }

  #matching() {
    const part = this.#typed.toLocaleLowerCase();
    return this.values.filter(({ value }) => named(this.name, value).toLocaleLowerCase().includes(part));
  }

  /** The most frequent; before them what is chosen though it is too rare to be among these. */
  #drawn() {
    const known = new Map(this.values.map(({ value, count }) => [value, count]));
    const shown = this.#typed || this.#all ? this.#matching().slice(0, FOUND) : this.values.slice(0, this.short);
    const frequent = shown.map(({ value }) => value);
    const listed = [...this.#chosen.filter((value) => !frequent.includes(value)), ...frequent];
    const focused = this.list.contains(document.activeElement) ? document.activeElement.value : null;
    this.list.replaceChildren(...listed.map((value) => this.#choice(value, known.get(value))));
    if (focused !== null) this.list.querySelector(`[value="${CSS.escape(focused)}"]`)?.focus();
    this.#noted(shown.length);
  }

  #noted(shown) {
    const more = Math.min(this.values.length, FOUND) - this.short;
    this.rest.hidden = Boolean(this.#typed) || more <= 0 || !this.short;
    this.rest.textContent = this.#all ? "Show fewer" : `Show ${counted(more)} more`;
    const rare = this.left_out ? `${counted(this.left_out)} more: type a whole name and press Enter.` : "";
    this.note.textContent = this.#typed && !shown ? rare || "None is named so." : this.#all ? rare : "";
    this.note.hidden = !this.note.textContent;
  }

  #choice(value, count) {
    const input = element("input", { type: "checkbox", value });
    input.checked = this.#chosen.includes(value);
    input.addEventListener("change", () => this.#toggled(value, input.checked));
    const words = element("span", { title: named(this.name, value) }, named(this.name, value));
    const beside = count === undefined ? null : element("span", { class: "count" }, counted(count));
    const drawn = element("span", { class: `shape ${value}`, "aria-hidden": "true" });
    const shape = this.name === "orientation" ? drawn : null;
    return element("li", {}, element("label", {}, input, shape, words, beside));
  }

  #toggled(value, on) {
    const others = this.#chosen.filter((one) => one !== value);
    this.change(on ? [...others, value] : others);
  }

  #unfolded() {
    this.#all = !this.#all;
    this.#drawn();
  }
}

/** The filters that are set, each with a button that takes it back, and one for all. */
export function chips(list, state, change) {
  const set = narrowed(state);
  const made = set.map(({ name, value, without }) => {
    const words = named(name, value);
    const spoken = { class: "chip", "aria-label": `Remove the filter ${words}` };
    return element("li", {}, button(spoken, () => change(without), words, icon("cross")));
  });
  const all = button({ class: "plain" }, () => change({ ...UNFILTERED }), "Clear all");
  list.replaceChildren(...made, ...(set.length > 1 ? [element("li", {}, all)] : []));
  list.hidden = !set.length;
}
