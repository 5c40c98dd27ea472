// The playground's service over HTTP, with the token that the search page keeps.

import { picture, Refused, token } from "./api.js";

export const facts = () => answered("facts");
export const job = (id) => answered(`jobs/${id}`);
export const enter = (wish) => answered("jobs", { json: wish });
export const stop = (id) => answered(`stop/${id}`, { json: {} });
export const search = async (text) => (await answered("search", { json: { text } })).results;
export const neighbors = async (text, k, signal) =>
  (await answered("neighbors", { json: { text, k }, signal })).neighbors;
export const alike = async (picture, k, signal) =>
  (await answered("alike", { json: { picture, k }, signal })).neighbors;
/** These answer with the name that the picture has at the service. */
export const take = async (uid) => (await answered("take", { json: { uid } })).picture;
export const bring = async (blob) => (await answered("pictures", { blob })).picture;
export const mask = async (blob) => (await answered("masks", { blob })).picture;

async function answered(path, { json, blob, signal } = {}) {
  const headers = {};
  if (json) headers["Content-Type"] = "application/json";
  if (blob) headers["Content-Type"] = blob.type;
  if (token.kept()) headers.Authorization = `Bearer ${token.kept()}`;
  const body = json ? JSON.stringify(json) : blob;
  const words = { method: body ? "POST" : "GET", body, headers, signal, cache: "no-store", credentials: "omit" };
  const answer = await fetch(new URL(path, document.baseURI), words).catch((error) => {
    if (signal?.aborted) throw error;
    const fix = "Look whether it runs, then try again.";
    throw new Refused(0, { error: "The service cannot be reached.", value: location.host, fix });
  });
  const told = await answer.json().catch(() => ({ error: `The service answered ${answer.status}.` }));
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

/** Saves a picture under the name that commands have for it. */
export async function save(name) {
  const url = URL.createObjectURL(await picture("pictures", name));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
