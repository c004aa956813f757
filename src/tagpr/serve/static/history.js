// The person's history and what one would like it to be: items switched off, edited, added. Nothing here is saved.

import { announce, byId, count, el, marked, newId, said } from "./dom.js";
import { itemForm } from "./item_form.js";

const PAGE = 60;

export class History {
  /** `onChange()` is told of every change. */
  constructor(onChange) {
    Object.assign(this, { onChange, task: null, items: [], evidence: null, decisive: new Map(), editing: null, most: PAGE, added: 0 });
  }

  /** Show stored items, unchanged. */
  load(task, stored) {
    const items = stored.map(({ id, date, fields }) => ({ id, date, fields, stored: fields, on: true }));
    Object.assign(this, { task, items: items.reverse(), evidence: null, decisive: new Map(), editing: null, most: PAGE });
    this.draw();
  }

  /** Underline what an answer's evidence quotes; items it read come first. */
  underline(evidence) {
    this.evidence = evidence;
    this.decisive = new Map();
    this.draw();
  }

  /** Say of items what leaving them out would do: id -> the other answer. */
  decide(answers) {
    this.decisive = answers;
    this.draw();
  }

  get off() { return this.items.filter((item) => item.stored && !item.on); }
  get edited() { return this.items.filter((item) => item.stored && item.fields !== item.stored); }
  get new() { return this.items.filter((item) => !item.stored); }
  get changes() { return this.off.length + this.edited.length + this.new.filter((item) => item.on).length; }

  /** What a request says of the history: nothing, the ids left out, or the whole history as it would be. */
  payload() {
    if (!this.changes) return {};
    if (!this.edited.length && !this.new.length) return { without: this.off.map((item) => item.id) };
    const kept = this.items.filter((item) => item.on).reverse(); // oldest first, as it is stored
    return { history: kept.map(({ id, date, fields }) => ({ id, date, fields })) };
  }

  reset() {
    this.items = this.items.filter((item) => item.stored);
    for (const item of this.items) Object.assign(item, { on: true, fields: item.stored });
    this.editing = null;
    this.changed("All changes are undone.");
  }

  add() {
    this.editing = { id: null };
    this.draw();
    byId("history").querySelector("form [name]").focus();
  }

  changed(says) {
    this.draw();
    announce(says);
    this.onChange();
  }

  draw() {
    const box = byId("history");
    const focus = document.activeElement?.dataset.keep;
    const read = new Map((this.evidence?.items ?? []).map((item) => [item.id, item]));
    const first = this.items.filter((item) => read.has(item.id)).sort((a, b) => read.get(a.id).number - read.get(b.id).number);
    const rest = this.items.filter((item) => !read.has(item.id));
    const parts = [];
    if (this.editing && this.editing.id === null) parts.push(this.newForm());
    if (read.size) parts.push(this.group("Read for this answer", first, read));
    if (rest.length || !this.items.length) parts.push(this.group(read.size ? "Not read" : null, rest.slice(0, this.most), read));
    if (rest.length > this.most) {
      const more = () => { this.most += 10 * PAGE; this.draw(); };
      parts.push(el("button", { type: "button", className: "plain", onclick: more }, `Show more (${rest.length - this.most} left)`));
    }
    box.replaceChildren(...parts);
    byId("history-count").textContent = this.task ? count(this.items.length, "item") : "";
    byId("changes").hidden = !this.changes;
    byId("changes-count").textContent = `What if: ${count(this.changes, "change")}.`;
    if (focus) [...box.querySelectorAll("[data-keep]")].find((node) => node.dataset.keep === focus)?.focus();
  }

  group(title, items, read) {
    const list = el("ul", { className: "items", "aria-label": title ?? "History, latest first" }, ...items.map((item) => this.row(item, read.get(item.id))));
    if (!items.length) list.append(el("li", { className: "quiet none" }, this.task ? "No items yet." : "Choose a person."));
    return el("div", {}, title ? el("h3", {}, title) : null, list);
  }

  row(item, read) {
    if (this.editing?.id === item.id) return el("li", { className: "item editing" }, this.editForm(item));
    const name = this.words(item);
    const state = !item.on ? "off" : !item.stored ? "added" : item.fields !== item.stored ? "edited" : "";
    const box = el("input", {
      type: "checkbox", checked: item.on, id: newId("on"), "aria-label": `Shown to the model: ${name}`, dataset: { keep: `on ${item.id}` },
      onchange: () => { item.on = box.checked; this.changed(item.on ? "Shown again." : "Left out of the next answer."); },
    });
    const decides = this.decisive.get(item.id);
    return el("li", { className: `item ${state}${read?.cited ? " cited" : ""}`, dataset: { id: item.id } }, box,
      el("div", { className: "text" },
        el("p", { className: "small quiet" }, read ? el("span", { className: "number", title: "its place in the prompt" }, String(read.number)) : null,
          item.date ?? "", state ? el("em", {}, state) : null, read?.cited ? el("span", { className: "tell" }, "cited") : null),
        el("p", { className: read?.cited ? "" : "clamp" }, ...this.fields(item, read)),
        decides === undefined ? null : el("p", { className: "decides" }, "Without it: ", said(decides || "no answer"))),
      el("button", { type: "button", className: "plain", "aria-label": `Edit: ${name}`, dataset: { keep: `edit ${item.id}` },
        onclick: () => { this.editing = item; this.draw(); byId("history").querySelector("form [name]").focus(); } }, "Edit"));
  }

  /** The item's fields as text, the output last behind an arrow, quotations underlined. */
  fields(item, read) {
    const output = this.task.output_field;
    const names = Object.keys(item.fields).filter((name) => name !== output);
    const shown = this.task.item_fields.filter((name) => names.includes(name));
    const parts = [];
    for (const name of [...(shown.length ? shown : names), ...(output in item.fields ? [output] : [])]) {
      if (parts.length) parts.push(el("span", { className: "quiet" }, name === output ? " → " : " · "));
      const unchanged = read?.fields[name] === item.fields[name];
      const quotes = unchanged ? read.quotes.filter((quote) => quote.field === name) : [];
      const text = said("", { className: name === output ? "output" : "" });
      text.append(...marked(item.fields[name], quotes.map((quote) => [quote.start, quote.end, "quote", "quoted by the chain"])));
      parts.push(text);
    }
    return parts;
  }

  words(item) {
    const name = this.task.item_fields.find((one) => item.fields[one]) ?? Object.keys(item.fields)[0];
    return Array.from(item.fields[name] ?? "").slice(0, 60).join("");
  }

  editForm(item) {
    const done = (says) => { this.editing = null; says ? this.changed(says) : this.draw(); };
    return itemForm(this.task, item.fields, {
      onKeep: (fields) => {
        item.fields = item.stored && JSON.stringify(fields) === JSON.stringify(item.stored) ? item.stored : fields;
        done("The item is changed for the next answer.");
      },
      onCancel: () => done(""),
      onRemove: item.stored ? null : () => { this.items = this.items.filter((one) => one !== item); done("The item is removed."); },
    });
  }

  newForm() {
    const done = (says) => { this.editing = null; says ? this.changed(says) : this.draw(); byId("add").focus(); };
    return el("div", { className: "item editing" }, itemForm(this.task, {}, {
      onKeep: (fields) => {
        let id;
        do id = `what-if-${(this.added += 1)}`; while (this.items.some((item) => item.id === id));
        const date = new Date().toISOString().slice(0, 10); // what is added is the latest
        this.items.unshift({ id, date, fields, stored: null, on: true });
        done("The item is added for the next answer.");
      },
      onCancel: () => done(""),
    }));
  }
}
