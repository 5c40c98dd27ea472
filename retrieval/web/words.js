// How values are told to people.

const COUNTED = new Intl.NumberFormat("en");
const COUNTRIES = new Intl.DisplayNames(["en"], { type: "region", fallback: "none" });
const NAMES = {
  render_3d: "3D render",
  ml_training: "ML training",
  ai_generated: { no: "No", yes: "Yes", partial: "In part", unknown: "Not stated" },
  since: "from",
  until: "to",
};

export const counted = (number) => COUNTED.format(number);
/** With two digits, a true minus, and no minus before zero. */
export const score = (value) => (Math.round(value * 100) / 100 || 0).toFixed(2).replace("-", "−");

export function plural(number, one, many = `${one}s`) {
  return `${counted(number)} ${number === 1 ? one : many}`;
}

/** A value of a facet: kinds and orientations are the schema's words, all others are names that stay as they are. */
export function named(facet, value) {
  if (facet === "since" || facet === "until") return `${NAMES[facet]} ${value}`;
  if (facet === "ai_generated") return NAMES.ai_generated[value] ?? value;
  if (facet === "territory") return COUNTRIES.of(value) ?? value;
  if (facet === "uses") return NAMES[value] ?? value.charAt(0).toUpperCase() + value.slice(1).replaceAll("_", " ");
  if (facet === "license") return value.replace(/^LicenseRef-/, ""); // what SPDX puts before names of one's own
  if (facet !== "image_type" && facet !== "orientation") return value;
  return NAMES[value] ?? value.charAt(0).toUpperCase() + value.slice(1);
}

/** What was asked: for “red fruit” and like “red apple”. `liked` is what `uid` names, where it is known. */
export function question({ text, uid }, given, liked) {
  const words = text ? `for “${text}”` : "";
  const named = liked ? `“${liked.description}”` : "one picture";
  const pictured = given ? "a picture of yours" : uid ? named : "";
  return [words, pictured && `like ${pictured}`].filter(Boolean).join(" and ");
}

export function territory(value) {
  return value === "worldwide" ? "worldwide" : `in ${value.join(", ")}`;
}

export function duration(ms) {
  return ms < 1000 ? `${Math.max(1, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function kilobytes(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
