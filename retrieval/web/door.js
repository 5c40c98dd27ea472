// The sign-in. A token is tried before it is believed, and is forgotten where it does not fit.

import { token } from "./api.js";
import { find } from "./elements.js";

export class Door {
  #dialog = find("door");
  #field = find("token");
  #wrong = this.#dialog.querySelector(".wrong");

  /** `entered()` after a token is kept; `reject` says that it was not taken. */
  constructor({ entered, left }) {
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const given = this.#field.value.trim();
      if (!/^[!-~]+$/.test(given)) return this.#told("A token has letters, digits and signs of ASCII, and no spaces.");
      token.keep(given);
      this.#field.value = "";
      this.#dialog.close();
      entered();
    });
    find("leave").addEventListener("click", () => {
      token.forget();
      left();
    });
  }

  open() {
    if (this.#dialog.open) return;
    this.#told(token.kept() ? "This token is not taken any more, or never was. Ask who runs the service for one." : "");
    token.forget();
    this.#dialog.showModal();
    this.#field.focus();
  }

  #told(words) {
    this.#wrong.textContent = words;
    this.#wrong.hidden = !words;
  }
}
