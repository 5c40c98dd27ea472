// Pictures come one fetch each, since their token travels in a header: at most six at a time, those in view first.
//
// The surprising rule: none outlives what shows it. An asset may be revoked at any moment, so the service forbids
// to store it, and a picture's blob is let go as soon as the results that it belongs to are replaced.

import { picture, Refused } from "./api.js";

const AT_ONCE = 6;
const TRIES = 4; // of those that the service was too busy for: a screen of thumbnails may pass a caller's rate
const waiting = new Map(); // how each image is fetched
let running = 0;

function next() {
  while (running < AT_ONCE && waiting.size) {
    const image = nearest();
    const fetched = waiting.get(image);
    waiting.delete(image);
    running += 1;
    fetched().finally(() => {
      running -= 1;
      next();
    });
  }
}

/** Of those that wait, the one nearest to the middle of the window. */
function nearest() {
  const away = (image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return Math.abs(top + bottom - innerHeight);
  };
  return [...waiting.keys()].map((image) => [away(image), image]).reduce((a, b) => (b[0] < a[0] ? b : a))[1];
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function patiently(kind, uid, signal) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await picture(kind, uid, signal);
    } catch (error) {
      const busy = error instanceof Refused && (error.status === 429 || error.status === 503);
      if (!busy || tried === TRIES || signal.aborted) throw error;
      await pause(Math.min(error.wait_s, 10));
    }
  }
}

/** The pictures of one list of results, or of one asset that lies open. `close` ends its fetches. */
export class Pictures {
  #ending = new AbortController();
  #urls = new Map(); // of "kind uid"
  #jobs = new Map(); // how an image is fetched that is not yet, seen or not
  #seen = new IntersectionObserver((entries) => this.#noticed(entries), { rootMargin: "600px 0px" });

  /** Fetches when `image` comes near the window, and takes its place in the queue back when it leaves before. */
  show(image, uid, kind = "thumbnails") {
    const url = this.#urls.get(`${kind} ${uid}`);
    if (url) return shown(image, url);
    this.#jobs.set(image, () => this.#fetched(image, uid, kind));
    this.#seen.observe(image);
  }

  /** The blob's address where the picture is there already, or null. */
  at(uid) {
    return this.#urls.get(`thumbnails ${uid}`) ?? null;
  }

  /** Takes over what another has of `uids`, so that a picture which stays does not flicker. */
  inherit(other, uids) {
    for (const uid of uids) {
      const key = `thumbnails ${uid}`;
      if (other.#urls.has(key)) this.#urls.set(key, other.#urls.get(key));
      other.#urls.delete(key);
    }
  }

  close() {
    this.#ending.abort();
    this.#seen.disconnect();
    for (const image of this.#jobs.keys()) waiting.delete(image);
    for (const url of this.#urls.values()) URL.revokeObjectURL(url);
    this.#urls.clear();
  }

  #noticed(entries) {
    for (const { target, isIntersecting } of entries) {
      const job = this.#jobs.get(target);
      if (job && isIntersecting) waiting.set(target, job);
      else waiting.delete(target);
    }
    next();
  }

  async #fetched(image, uid, kind) {
    this.#jobs.delete(image);
    this.#seen.unobserve(image);
    try {
      const blob = await patiently(kind, uid, this.#ending.signal);
      if (this.#ending.signal.aborted) return;
      const url = URL.createObjectURL(blob);
      this.#urls.set(`${kind} ${uid}`, url);
      shown(image, url);
    } catch (error) {
      if (!this.#ending.signal.aborted) missing(image, error.status === 404 ? "No longer shown" : "Not loaded");
    }
  }
}

function shown(image, url) {
  image.onload = () => image.classList.add("shown");
  image.onerror = () => missing(image, "Not readable");
  image.src = url;
}

/** The caption stays, and the frame says why it is empty. */
function missing(image, words) {
  image.parentElement.dataset.missing = words;
}
