// One job at the service: its place in the line, how far it is, and its end.

import * as calls from "./calls.js";
import { button, element } from "./elements.js";
import { plural } from "./words.js";

const EVERY_MS = 120; // a small model draws a picture in half a second

/** The answer of a wish, or null where it was given up; `place` shows meanwhile how far it is. */
export async function done(wish, place) {
  const bar = element("progress", { "aria-label": "Progress" });
  const told = element("p", { role: "status" }, "Asked for");
  let name = null;
  let given_up = false;
  const stop = button({}, () => {
    given_up = true;
    if (name) calls.stop(name);
  }, "Stop");
  place.replaceChildren(bar, told, stop);
  place.hidden = false;
  try {
    let now = await calls.enter(wish);
    name = now.job;
    if (given_up) now = await calls.stop(name);
    while (now.state === "waiting" || now.state === "running") {
      shown(now, bar, told);
      await new Promise((next) => setTimeout(next, EVERY_MS));
      now = await calls.job(name);
    }
    if (now.state === "failed") throw now;
    return now.state === "done" ? now.answer : null;
  } finally {
    place.hidden = true;
  }
}

function shown({ state, place, progress: { done, total, rate, left_s } }, bar, told) {
  if (state === "waiting" || !done) {
    bar.removeAttribute("value");
    told.textContent = place ? `${plural(place, "other")} before you` : "Reading the prompt";
    return;
  }
  bar.max = total;
  bar.value = done;
  const speed = rate ? `, ${rate} a second, ${Math.ceil(left_s)} s left` : "";
  told.textContent = `${done} of ${total} tokens${speed}`;
}
