// The search service over HTTP. A token lives in sessionStorage: it is gone with the tab, and no cookie holds it.

const PATIENCE_MS = 30_000;
const TOKEN = "pardalis-token";

/** An answer that is none: what the service said, or the network, as error, value and fix. */
export class Refused extends Error {
  constructor(status, { error, value = "", fix = "" }, wait_s = 1) {
    super(error);
    Object.assign(this, { status, error, value, fix, wait_s });
  }
}

export const token = {
  kept: () => sessionStorage.getItem(TOKEN),
  keep: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

const rights = { uses: [], territory: [] };

/** For which uses and places everything is asked from here on, beside the token's own. */
export function cleared({ uses, territory }) {
  Object.assign(rights, { uses, territory });
}

export const facts = (signal) => json("facts", { signal });
export const search = (body, signal) => json("search", { signal, body: { ...body, where: { ...body.where, ...set() } } });
export const asset = (uid, signal) => json(`assets/${encodeURIComponent(uid)}`, { signal });
export const neighbors = (uid, signal) => json(`neighbors/${encodeURIComponent(uid)}`, { signal });
/** `kind` is thumbnails or images. */
export const picture = async (kind, uid, signal) =>
  (await answered(`${kind}/${encodeURIComponent(uid)}`, { signal })).blob();

/** The rights that are asked for: an empty list would be one that nothing passes. */
function set() {
  return Object.fromEntries(Object.entries(rights).filter(([, values]) => values.length));
}

async function json(path, words) {
  return (await answered(path, words)).json();
}

async function answered(path, { signal, body }) {
  const answer = await sent(path, signal, body);
  if (answer.ok) return answer;
  throw new Refused(answer.status, await told(answer), Number(answer.headers.get("Retry-After")) || 1);
}

async function sent(path, signal, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (token.kept()) headers.Authorization = `Bearer ${token.kept()}`;
  const url = new URL(path, document.baseURI);
  if (!body) for (const [name, values] of Object.entries(set())) for (const one of values) url.searchParams.append(name, one);
  const late = AbortSignal.timeout(PATIENCE_MS);
  try {
    return await fetch(url, {
      method: body ? "POST" : "GET",
      body: body ? JSON.stringify(body) : undefined,
      headers,
      cache: "no-store",
      credentials: "omit",
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
  } catch (error) {
    throw signal?.aborted ? error : unreached(error);
  }
}

function unreached(error) {
  const value = location.host;
  if (!navigator.onLine) {
    return new Refused(0, { error: "You are offline.", fix: "The page asks again by itself when you are back." });
  }
  if (error.name === "TimeoutError") {
    const late = `The service did not answer within ${PATIENCE_MS / 1000} s.`;
    return new Refused(0, { error: late, value, fix: "Try again in a while." });
  }
  const fix = "Look whether it runs, then try again.";
  return new Refused(0, { error: "The service cannot be reached.", value, fix });
}

/** A proxy between may answer with a page of its own. */
async function told(answer) {
  const said = await answer.json().catch(() => null);
  if (typeof said?.error === "string") return said;
  const error = `The service answered ${answer.status}.`;
  return { error, value: answer.statusText, fix: "Try again in a while." };
}
