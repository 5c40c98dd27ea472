// What the middle of the page says: how many were found, that there are none, or that the service refused.

import { button, element, find } from "./elements.js";
import { narrowed, UNFILTERED } from "./state.js";
import { counted, duration, named, plural, territory } from "./words.js";

const VIEWS = { start: ["start"], results: ["sized", "grid"], empty: ["empty"], trouble: ["trouble"] };

/** Shows one of them and nothing of the others. */
export function view(name) {
  for (const [other, ids] of Object.entries(VIEWS)) for (const id of ids) find(id).hidden = other !== name;
  if (name === "start" || name === "trouble") find("told").textContent = find("beside").textContent = "";
  if (name !== "results") find("further").hidden = true;
}

export function busy(on) {
  find("progress").hidden = !on;
  find("results").setAttribute("aria-busy", String(on));
}

export function told({ results, eligible, took_ms }, state, asked) {
  const set = narrowed(state).length;
  const filters = set ? `, narrowed by ${plural(set, "filter")}` : "";
  find("told").textContent = `${plural(results.length, "result")} ${asked}${filters}`;
  const best = results.length && results.length < eligible ? `the best of ${counted(eligible)} in ` : "";
  find("beside").textContent = best + duration(took_ms);
}

export function further({ results, eligible }, { k, max_k }, more) {
  const place = find("further");
  const most = Math.min(max_k, eligible);
  place.hidden = results.length < k || results.length >= most;
  place.replaceChildren(button({}, more, `Show ${counted(most)}`));
}

/** What to loosen: each filter that is set, all of them, or one half of a picture with words. */
export function empty({ eligible }, state, { given, change, drop }) {
  const set = narrowed(state);
  const ways = set.map(({ name, value, without }) => [`Without “${named(name, value)}”`, () => change(without)]);
  if (set.length > 1) ways.push(["Without any filter", () => change({ ...UNFILTERED })]);
  if (state.text && (given || state.uid)) {
    ways.push(["By the words alone", drop], ["By the picture alone", () => change({ text: "" })]);
  }
  const [, place, list] = find("empty").children;
  place.textContent = why(eligible, set.length);
  list.replaceChildren(...ways.map(([words, act]) => element("li", {}, button({}, act, words))));
  view("empty");
}

function why(eligible, filters) {
  if (eligible) return "What passes the filters is none of it like that.";
  if (filters) return "No picture that you may be shown passes these filters. Loosen one:";
  return "No picture of this corpus may be shown to you at all: the last lines of this page tell for what you ask.";
}

/** What the service said: error, value and fix, each as it came. */
export function trouble({ message, value, fix }, retry) {
  const parts = [element("h2", {}, message)];
  if (value) parts.push(element("p", {}, element("code", {}, String(value))));
  if (fix) parts.push(element("p", {}, fix));
  find("trouble").replaceChildren(...parts, button({ class: "main" }, retry, "Try again"));
  view("trouble");
}

export function foot(facts, signed_in) {
  const { corpus, version, assets, shown, uses, encoder } = facts;
  const purposes = uses.map((use) => use.replaceAll("_", " "));
  const purpose = uses.length ? [`for ${new Intl.ListFormat("en").format(purposes)}`] : [];
  const told = [...purpose, territory(facts.territory)];
  const share = `${counted(shown)} of ${plural(assets, "picture")} of ${corpus} (version ${version})`;
  const key = facts.open ? "Without a token" : "By your token";
  find("asked").textContent = `${key}, ${share} may be shown: ${told.join(", ")}.`;
  find("encoder").textContent = encoder.is_clip
    ? `Words and pictures are compared by CLIP (${encoder.name}).`
    : "Words and pictures are compared by an offline encoder (ConSE over EfficientNet), not by CLIP.";
  find("corpus").textContent = corpus;
  find("leave").hidden = !signed_in;
}
