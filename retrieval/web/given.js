// A picture of the caller's own: dropped, pasted or chosen. It stays in this tab and is sent with a search only.

import { Refused } from "./api.js";
import { find } from "./elements.js";
import { kilobytes } from "./words.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];

/** By number: an entry of the history names the picture that was asked with, and "back" asks with it again. */
const kept = []; // files, that is, not their bytes

export const recall = (number) => kept[number] ?? null;

/** A picture that may be sent, or what is wrong with it: {file, url, name, number} or {unfit}. */
export function taken(file, max_bytes) {
  if (!TYPES.includes(file.type)) {
    return { unfit: `“${file.name}” is ${file.type || "no picture"}. JPEG, PNG or WebP can be searched by.` };
  }
  if (file.size > max_bytes) {
    const size = `${kilobytes(file.size)}, over the ${kilobytes(max_bytes)}`;
    return { unfit: `“${file.name}” has ${size} that the service takes. Make it smaller: 1,000 pixels do.` };
  }
  const number = kept.length;
  const made = { file, url: URL.createObjectURL(file), name: file.name, number };
  kept.push(made);
  return made;
}

/** As a search sends it. The file may have changed on the disk since, and is not readable then. */
export function base64({ file, name }) {
  const gone = { error: "That picture cannot be read any more.", value: name, fix: "Drop it here again." };
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Refused(400, gone));
    reader.readAsDataURL(file);
  });
}

/** Calls `take(file)` for what is dropped anywhere, pasted anywhere, or chosen. */
export function watch(take) {
  const veil = find("drop");
  const file = find("file");
  const first = (event, { files }) => {
    if (!files.length) return;
    event.preventDefault();
    take(files[0]);
  };
  const over = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    veil.hidden = false;
  };
  find("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", (event) => {
    first(event, file);
    file.value = ""; // the same one may be chosen again
  });
  addEventListener("paste", (event) => first(event, event.clipboardData));
  addEventListener("dragenter", over);
  addEventListener("dragover", over);
  addEventListener("dragleave", ({ relatedTarget }) => (veil.hidden ||= !relatedTarget));
  addEventListener("drop", (event) => {
    veil.hidden = true;
    first(event, event.dataTransfer);
  });
}
