// The search page: what is asked stands in the address, and everything shown follows from it.
//
// The surprising rule: no act changes what is shown by itself. It changes the state (`go`), which is written to the
// history and applied; so "back", a link and a click are one path.

import * as api from "./api.js";
import { Ask } from "./ask.js";
import { Detail } from "./detail.js";
import { Door } from "./door.js";
import { find, writing } from "./elements.js";
import { chips, Filters } from "./filters.js";
import { base64, recall, taken, watch } from "./given.js";
import { Grid } from "./grid.js";
import { Start } from "./start.js";
import { asked, K, parsed, written } from "./state.js";
import * as views from "./views.js";
import { plural, question } from "./words.js";

const now = {
  facts: null,
  state: parsed(location.search),
  given: recall(history.state?.given), // the caller's own picture
  liked: null, // the asset that `state.uid` names, where a result told it
  rights: "", // what the facts were told for, or will be
  answering: "", // what the results answer, or will
  searching: new AbortController(),
  grown: false, // more of the same was asked for
  trouble: null,
  leaving: null, // until the history has gone back: what is pushed before that would be lost
};

const address = (uid) => written({ ...now.state, open: uid });
const narrow = (change) => go({ text: ask.written, k: K, ...change });
const grid = new Grid({ address, open: opened, alike });
const filters = new Filters(narrow);
const ask = new Ask({ submit: submitted, drop: () => go({ uid: "", k: K }, { given: null }) });
const detail = new Detail({
  found: (uid) => grid.result(uid),
  thumbnail: (uid) => grid.thumbnail(uid),
  beside: (uid, step) => grid.beside(uid, step),
  search: (text) => go({ text, uid: "", open: "", k: K }, { given: null }),
  open: opened,
  closed,
  alike,
  address,
  failed,
});
const start = new Start();
const door = new Door({ entered: begin, left: () => location.reload() });

/** The state changes, in an entry of the history of its own unless it is `replaced`. */
function go(change, words = {}) {
  if (now.leaving) return void now.leaving.then(() => go(change, words));
  const { given = now.given, replaced = false, inside = false } = words;
  const state = { ...now.state, ...change };
  const entry = { given: given?.number ?? null, inside };
  if (written(state) !== written(now.state) || given !== now.given) {
    history[replaced ? "replaceState" : "pushState"](entry, "", written(state));
  }
  apply(state, given);
}

function apply(state, given) {
  if (state.uid !== now.liked?.uid) now.liked = grid.result(state.uid) ?? detail.result(state.uid);
  Object.assign(now, { state, given });
  drawn();
  const corpus = now.facts?.corpus ?? "Pictures";
  document.title = [question(state, given, now.liked).replace(/^for /, ""), corpus].filter(Boolean).join(" · ");
  if (rights(state) !== now.rights) return begin();
  if (!now.facts) return;
  const { open, ...rest } = state;
  const asking = JSON.stringify([rest, given?.number]);
  if (asking !== now.answering) {
    now.answering = asking;
    search();
  }
  if (open && open !== detail.uid) detail.open(open, now.facts);
  else if (!open && detail.uid) detail.close();
}

/** What is asked, wherever the page tells it: also before there are facts, or where they are refused. */
function drawn() {
  ask.show(now.state, now.given, now.liked);
  filters.show(now.state);
  chips(find("chips"), now.state, narrow);
}

async function search() {
  const { state, given, facts } = now;
  const shown = now.grown ? grid.uids.length : 0;
  now.grown = false;
  now.searching.abort();
  const { signal } = (now.searching = new AbortController());
  if (!state.text && !state.uid && !given) return unasked();
  start.close();
  views.busy(true);
  try {
    const image = given && (await base64(given));
    const body = asked({ ...state, k: Math.min(state.k, facts.max_k) }, image);
    const answer = await api.search(body, signal);
    if (!signal.aborted) answered(answer, shown);
  } catch (error) {
    if (!signal.aborted) failed(error);
  } finally {
    if (!signal.aborted) views.busy(false);
  }
}

function unasked() {
  views.busy(false);
  grid.show([]);
  if (!now.facts.shown) return views.empty({ eligible: 0 }, now.state, { change: narrow });
  views.view("start");
  start.show(now.facts, (category) => go({ text: category, category: [category] }));
}

/** `before` of the results are there already, when more of the same was asked for. */
function answered(answer, before) {
  const { state, given, facts } = now;
  const { results } = answer;
  filters.told(results.length ? `Show ${plural(results.length, "result")}` : "Nothing is found: loosen a filter");
  views.told(answer, state, question(state, given, now.liked));
  if (results.length) views.view("results");
  else views.empty(answer, state, { given, change: narrow, drop: () => go({ uid: "" }, { given: null }) });
  grid.show(results);
  views.further(answer, { k: state.k, max_k: facts.max_k }, more);
  if (!before) scrollTo(0, 0);
  // What had the focus may be gone: a result, or the button for more.
  if (document.activeElement === document.body) grid.focusAt(before);
}

function failed(error) {
  if (!(error instanceof api.Refused)) throw error;
  grid.show([]);
  if (error.status === 401) {
    detail.close(); // and comes back with the token: it stands in the address
    return door.open();
  }
  now.trouble = error;
  views.trouble(error, retried);
}

function retried() {
  now.trouble = null;
  if (now.facts) search();
  else begin();
}

function submitted(change) {
  const before = now.searching;
  ask.refuse("");
  narrow(change);
  if (now.facts && now.searching === before) search(); // the same again: what is shown may have changed since
}

function more() {
  now.grown = true;
  go({ k: now.facts.max_k }, { replaced: true });
}

function alike(uid) {
  go({ text: "", uid, open: "", mix: 0, k: K }, { given: null });
}

/**
 * From one asset to the next takes the entry's place: "back" leads to the results, not through them. An asset that
 * a link led to has no results before it (not `inside`).
 */
function opened(uid) {
  const next = Boolean(detail.uid);
  go({ open: uid }, { replaced: next, inside: next ? Boolean(history.state?.inside) : true });
}

function closed(uid) {
  if (history.state?.inside) {
    now.leaving = new Promise((left) => addEventListener("popstate", left, { once: true }));
    history.back();
  } else go({ open: "" }, { replaced: true });
  if (!grid.focus(uid)) ask.focus();
}

function received(file) {
  const found = taken(file, now.facts?.max_image_bytes ?? Infinity); // before the facts are there, the service judges
  ask.refuse(found.unfit ?? "");
  if (!found.unfit) go({ uid: "", open: "", k: K }, { given: found });
}

const rights = ({ uses, territory }) => JSON.stringify([uses, territory]);

/** Also when it is wanted for something else: who is shown and what is counted depend on it. */
async function begin() {
  const wanted = rights(now.state);
  now.rights = wanted;
  now.facts = null;
  now.searching.abort(); // it was for what the pictures are wanted for no more
  start.close();
  grid.show([]);
  find("further").hidden = true;
  drawn();
  views.busy(true);
  api.cleared(now.state);
  try {
    const facts = await api.facts();
    if (wanted !== now.rights) return; // asked anew since
    now.facts = facts;
  } catch (error) {
    if (wanted === now.rights) failed(error);
    return;
  } finally {
    if (wanted === now.rights) views.busy(false);
  }
  now.answering = "";
  filters.offer(now.facts);
  views.foot(now.facts, api.token.kept() !== null);
  apply(now.state, now.given);
}

addEventListener("popstate", ({ state }) => {
  now.leaving = null;
  apply(parsed(location.search), recall(state?.given));
});
addEventListener("online", () => now.trouble?.status === 0 && retried());
addEventListener("keydown", (event) => {
  if (event.key !== "/" || writing(event.target) || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  ask.focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // an entry of the history for #results would be one without the caller's picture
  find("results").focus();
});
watch(received);
begin();
