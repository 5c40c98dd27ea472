// What is known of an asset, in a column: what it is called, how it is credited, and the rest in a list.

import { button, element, icon } from "./elements.js";
import { named, score } from "./words.js";

const COPIED_MS = 2000;

/** `alike()` and `search(words)` say what the person wants. */
export function facts(result, { alike, search }) {
  const act = button({ class: "main", "aria-keyshortcuts": "M" }, alike, icon("alike"), "More like this");
  return [title(result.description), element("p", { class: "acts" }, act), credit(result), list(result, search)];
}

/** It names the dialog too. */
export function title(words) {
  return element("h2", { id: "caption" }, words);
}

/** Name and value, line by line; what is not known is left out. */
export function list(result, search) {
  const words = result.keywords.map((word) => button({ class: "chip" }, () => search(word), word));
  const rows = [
    ["Licence", result.licenses.join(", ")],
    ["Contributor", result.contributor],
    ["Category", result.categories.join(", ")],
    ["Keywords", words.length ? element("span", { class: "words" }, ...words) : ""],
    ["Kind", named("image_type", result.image_type)],
    ["AI-generated", named("ai_generated", result.ai_generated)],
    ["Size", `${result.width} × ${result.height} px, ${result.orientation}`],
    ["Date", result.date],
    ["Score", result.score === undefined ? "" : score(result.score)],
    ["Reasons", result.reasons?.join(", ")],
    ["Asset", element("code", {}, result.uid)],
  ];
  const told = rows.filter(([, value]) => value);
  const pair = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value));
  return element("dl", {}, ...told.map(pair));
}

function credit({ attribution }) {
  if (!attribution) return element("p", { class: "credit" }, "No credit line is asked for.");
  const line = element("span", {}, attribution);
  const told = element("span", { role: "status", class: "unseen" });
  const name = "Copy the credit line";
  const act = () => copies(line, copy, told);
  const copy = button({ class: "quiet", "aria-label": name, title: name }, act, icon("copy"));
  const both = element("span", {}, element("span", { class: "note" }, "Credit line"), line);
  return element("p", { class: "credit" }, both, copy, told);
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
