// A combobox that finds a person by the beginning of the id (ARIA 1.2 combobox with a listbox).

import * as api from "./api.js";
import { byId, el, newId, said } from "./dom.js";

const SHOWN = 50;

/** Fills `box`; `onChoose(id, isNew)` hears of a choice. `allowNew` offers an id that nobody has yet. */
export class Picker {
  constructor(box, label, taskOf, onChoose, allowNew = false) {
    Object.assign(this, { taskOf, onChoose, allowNew, chosen: null, options: [], at: -1, asked: 0 });
    const [input, list] = [newId("pick"), newId("people")];
    this.input = el("input", {
      id: input, type: "text", role: "combobox", autocomplete: "off", spellcheck: false, dir: "auto", placeholder: "Type an id",
      "aria-expanded": "false", "aria-controls": list, "aria-autocomplete": "list",
      oninput: () => this.find(), onkeydown: (event) => this.key(event),
      onfocus: () => { this.input.select(); this.find(""); }, onclick: () => this.list.hidden && this.find(""), onblur: () => this.leave(),
    });
    this.list = el("ul", { id: list, role: "listbox", "aria-label": label, className: "options", hidden: true });
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps the focus
    box.append(el("label", { for: input }, label), el("div", { className: "anchor" }, this.input, this.list));
  }

  async find(prefix = this.input.value.trim()) {
    const asked = (this.asked += 1);
    this.list.setAttribute("aria-busy", "true");
    let found;
    try {
      found = await api.users(this.taskOf(), prefix, SHOWN);
    } catch (error) {
      return this.show([], error.message);
    }
    if (asked !== this.asked || document.activeElement !== this.input) return; // a later one is on its way, or nobody looks
    const options = found.map((id) => ({ id, isNew: false }));
    if (this.allowNew && prefix && !found.includes(prefix)) options.push({ id: prefix, isNew: true });
    this.show(options, options.length ? "" : "Nobody's id begins so.");
  }

  show(options, note) {
    const marked = this.options[this.at]?.id ?? this.chosen; // what the arrows reached stays marked in a newer list
    this.options = options;
    this.at = options.findIndex((option) => option.id === marked);
    this.list.setAttribute("aria-busy", "false");
    const rows = options.map((option, i) => {
      const text = option.isNew ? ["New person “", said(option.id), "”"] : [said(option.id)];
      return el("li", { id: newId("person"), role: "option", "aria-selected": String(i === this.at), onclick: () => this.choose(i) }, ...text);
    });
    if (options.length === SHOWN) note = `The first ${SHOWN}; type to find others.`;
    this.list.replaceChildren(...rows, ...(note ? [el("li", { className: "quiet note", role: "presentation" }, note)] : []));
    this.open(true);
    this.mark();
  }

  open(yes) {
    this.list.hidden = !yes;
    this.input.setAttribute("aria-expanded", String(yes));
    if (!yes) this.input.removeAttribute("aria-activedescendant");
  }

  mark() {
    const rows = this.list.querySelectorAll("[role=option]");
    rows.forEach((row, i) => row.setAttribute("aria-selected", String(i === this.at)));
    const row = rows[this.at];
    if (!row) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      if (this.list.hidden) return void this.find("");
      this.at = Math.max(0, Math.min(this.options.length - 1, this.at + move));
      this.mark();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const exact = this.options.findIndex((option) => option.id === this.input.value.trim());
      if (!this.list.hidden && this.options.length) this.choose(this.at >= 0 ? this.at : Math.max(exact, 0));
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.leave();
    }
  }

  leave() {
    this.open(false);
    this.input.value = this.chosen ?? "";
  }

  choose(i) {
    const { id, isNew } = this.options[i];
    this.set(id);
    this.open(false);
    this.onChoose(id, isNew);
  }

  /** Show a choice without telling anyone. */
  set(id) {
    this.chosen = id;
    this.input.value = id ?? "";
  }
}

/** `/` goes to the person's field unless one is typing. */
export function slashFinds(picker) {
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|textarea|select)$/i.test(document.activeElement?.tagName ?? "");
    if (event.key !== "/" || typing || byId("forget-dialog").open) return;
    event.preventDefault();
    picker.input.focus();
  });
}
