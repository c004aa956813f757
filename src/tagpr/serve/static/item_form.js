// A small form for the fields of one history item, or of a question.

import { el, newId } from "./dom.js";

/** A labelled input for one field: a list where the values are fixed, else a text area that grows. */
export function field(name, value, choices = []) {
  const id = newId("field");
  let input;
  if (choices.length) {
    const options = choices.includes(value) || !value ? choices : [value, ...choices];
    input = el("select", { id, name }, ...options.map((choice) => el("option", { value: choice }, choice)));
    input.value = value || options[0];
  } else {
    input = el("textarea", { id, name, rows: 1, dir: "auto", value });
  }
  return el("div", { className: "field" }, el("label", { for: id }, name.replaceAll("_", " ")), input);
}

/** The values of the inputs in `box`, by name. */
export const values = (box) => Object.fromEntries([...box.querySelectorAll("[name]")].map((input) => [input.name, input.value]));

/** A form for an item. `onKeep(fields)`, `onCancel()`; `onRemove()` where it can be removed. */
export function itemForm(task, fields, { onKeep, onCancel, onRemove }) {
  const names = [...new Set([...task.item_fields, ...Object.keys(fields)])];
  const inputs = names.map((name) => field(name, fields[name] ?? "", name === task.output_field ? task.labels : []));
  const cancel = () => onCancel();
  const form = el("form", {
    className: "item-form",
    onsubmit: (event) => {
      event.preventDefault();
      const given = Object.entries(values(form)).filter(([name, value]) => value.trim() || name in fields);
      if (given.some(([, value]) => value.trim())) onKeep(Object.fromEntries(given));
      else form.querySelector("[name]").focus();
    },
    onkeydown: (event) => {
      if (event.key === "Escape") cancel();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    },
  }, ...inputs, el("div", { className: "actions" },
    el("button", { type: "submit", className: "primary" }, "Keep the change"),
    el("button", { type: "button", onclick: cancel }, "Cancel"),
    onRemove ? el("button", { type: "button", className: "plain danger", onclick: () => onRemove() }, "Remove") : null));
  return form;
}
