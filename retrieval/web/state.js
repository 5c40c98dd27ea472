// What is asked, as the address of the page tells it: everything but a picture of the caller's own.
//
// The surprising rule: the asset that lies open is part of it too, so a link leads to it and "back" closes it.

export const FACETS = [
  { name: "license", title: "Licence" },
  { name: "category", title: "Category" },
  { name: "contributor", title: "Contributor" },
  { name: "image_type", title: "Kind" },
  { name: "orientation", title: "Orientation" },
];
/** What the pictures are wanted for, beside what the token is for: it decides who may be shown at all. */
export const RIGHTS = [
  { name: "uses", title: "Also cleared for" },
  { name: "territory", title: "Cleared in" },
];
const LISTS = [...FACETS, ...RIGHTS];
const DATES = ["since", "until"];
const WORDS = ["text", "uid", "open", ...DATES];
export const K = 60;

export const NOTHING = Object.freeze({
  ...Object.fromEntries(WORDS.map((name) => [name, ""])),
  ...Object.fromEntries(LISTS.map(({ name }) => [name, []])),
  mix: 0, // from -0.8, nearly the picture alone, to 0.8, nearly the words alone
  k: K,
});
export const UNFILTERED = Object.freeze(
  Object.fromEntries([...LISTS.map(({ name }) => [name, []]), ...DATES.map((name) => [name, ""])]),
);

export function parsed(search) {
  const told = new URLSearchParams(search);
  const state = { ...NOTHING };
  for (const name of WORDS) state[name] = (told.get(name) ?? "").trim();
  for (const { name } of LISTS) state[name] = [...new Set(told.getAll(name).filter(Boolean))];
  state.territory = state.territory.filter((code) => /^[A-Z]{2}$/.test(code));
  for (const name of DATES) if (!/^\d{4}-\d\d-\d\d$/.test(state[name])) state[name] = "";
  state.mix = between(Number(told.get("mix")), -0.8, 0.8) ?? 0;
  state.k = between(Math.trunc(Number(told.get("k"))), 1, 1000) ?? K;
  return state;
}

function between(value, low, high) {
  return value >= low && value <= high ? value : null;
}

/** The query part of the address; what is as always is left out. */
export function written(state) {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (Array.isArray(value)) for (const one of value) told.append(name, one);
    else if (value !== NOTHING[name]) told.set(name, String(value));
  }
  const query = told.toString();
  return query ? `?${query}` : location.pathname;
}

/** What is set of the filters, one by one: which, the value, and the change that takes it back. */
export function narrowed(state) {
  const listed = LISTS.flatMap(({ name }) =>
    state[name].map((value) => ({ name, value, without: { [name]: state[name].filter((one) => one !== value) } })),
  );
  const dated = DATES.filter((name) => state[name]);
  return [...listed, ...dated.map((name) => ({ name, value: state[name], without: { [name]: "" } }))];
}

/** The body of POST /search, less the rights; `image` is base64 or null. */
export function asked(state, image) {
  const pictured = image ? "image" : state.uid ? "uid" : null;
  const body = { k: state.k, where: where(state) };
  if (state.text) body.text = state.text;
  if (pictured) body[pictured] = image ?? state.uid;
  if (state.text && pictured) body.weights = weights(state.mix, pictured);
  return body;
}

/** Both whole in the middle; towards one end, the other counts less: "this picture, but at night" is -0.4. */
export function weights(mix, pictured) {
  const round = (value) => Math.round(Math.min(1, value) * 10) / 10;
  return { [pictured]: round(1 - mix), text: round(1 + mix) };
}

function where(state) {
  const found = {};
  for (const { name } of FACETS) if (state[name].length) found[name] = state[name];
  for (const name of DATES) if (state[name]) found[name] = state[name];
  return found;
}
