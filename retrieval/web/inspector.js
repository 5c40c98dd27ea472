// What training was given beside a picture: the candidates that were retrieved for it, in the order chosen.

import { neighbors } from "./api.js";
import { element, unseen } from "./elements.js";
import { plural, score } from "./words.js";

const VIA = { image: "by picture", text: "by words" };

/** Fills `place` for the target `uid`; `open(uid)` when a candidate is chosen. */
export async function inspect(place, { uid, pictures, signal, address, open }) {
  const { candidates, split } = await neighbors(uid, signal);
  const hidden = candidates.filter(({ shown }) => !shown).length;
  const many = plural(candidates.length, "candidate");
  const told = `${many}, in the order chosen, for this target of the split “${split}”.`;
  const withheld = hidden ? ` ${plural(hidden, "is", "are")} not shown to you.` : "";
  const list = element("ol", { class: "candidates" });
  candidates.forEach((candidate, place) => list.append(tile(candidate, place + 1, { pictures, address, open })));
  place.replaceChildren(element("p", { class: "note" }, told + withheld), list);
}

function tile(candidate, rank, { pictures, address, open }) {
  const how = element(
    "span",
    { class: "how" },
    element("span", { class: "rank" }, String(rank)),
    element("span", {}, VIA[candidate.via] ?? candidate.via),
    element("span", { class: "score" }, unseen("score "), score(candidate.score)),
  );
  if (!candidate.shown) {
    const grey = element("span", { class: "frame" }, unseen("Not shown to you"));
    return element("li", { class: "anonymous", title: "Not shown to you" }, grey, how);
  }
  const image = element("img", { alt: candidate.description, draggable: "false" });
  const link = element("a", { href: address(candidate.uid), title: candidate.description });
  link.append(element("span", { class: "frame" }, image), how);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(candidate.uid);
  });
  pictures.show(image, candidate.uid);
  return element("li", {}, link);
}
