// Elements made without markup. What a service or a person wrote only ever becomes text, never HTML.

/** A new element; what is null or false of attributes, and null of children, is left out; strings become text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function icon(name) {
  return element("span", { class: `icon ${name}`, "aria-hidden": "true" });
}

/** Text for those who are read to. */
export function unseen(words) {
  return element("span", { class: "unseen" }, words);
}

/** A button that does something on this page. */
export function button(attributes, act, ...children) {
  const made = element("button", { type: "button", ...attributes }, ...children);
  made.addEventListener("click", act);
  return made;
}

export const find = (id) => document.getElementById(id);

/** Whether keys that somebody presses now are letters of what they write. */
export function writing(target) {
  return target.isContentEditable || target.matches?.("input:not([type=checkbox], [type=range]), textarea");
}
