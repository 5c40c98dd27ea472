// Tabs, one panel each; which is open stands in the address behind "#".

import { button, element, find } from "./elements.js";

export class Tabs {
  #tabs = new Map(); // by name: {tab, panel}

  /** `names` by what the address calls them; gives each a panel. */
  constructor(names) {
    for (const [name, title] of Object.entries(names)) {
      const spoken = { id: `tab-${name}`, role: "tab", "aria-controls": `panel-${name}` };
      const tab = button(spoken, () => this.open(name), title);
      const panel = element("section", { id: `panel-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}` });
      this.#tabs.set(name, { tab, panel });
      find("tabs").append(tab);
      find("panels").append(panel);
    }
    find("tabs").addEventListener("keydown", (event) => this.#pressed(event));
    addEventListener("hashchange", () => this.#show(this.#named()));
    this.#show(this.#named());
  }

  panel(name) {
    return this.#tabs.get(name).panel;
  }

  open(name) {
    history.replaceState(null, "", `#${name}`);
    this.#show(name);
  }

  #named() {
    const name = location.hash.slice(1);
    return this.#tabs.has(name) ? name : [...this.#tabs.keys()][0];
  }

  #show(name) {
    for (const [other, { tab, panel }] of this.#tabs) {
      tab.setAttribute("aria-selected", String(other === name));
      tab.tabIndex = other === name ? 0 : -1;
      panel.hidden = other !== name;
    }
    this.#tabs.get(name).tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #pressed(event) {
    const names = [...this.#tabs.keys()];
    const at = names.indexOf(this.#named());
    const last = names.length - 1;
    const to = { ArrowLeft: at ? at - 1 : last, ArrowRight: at < last ? at + 1 : 0, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.open(names[to]);
    this.#tabs.get(names[to]).tab.focus();
  }
}
