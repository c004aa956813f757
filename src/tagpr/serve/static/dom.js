// Elements without innerHTML: what users wrote is only ever set as text.

/** An element. Properties are set as such, `dataset` and `aria-*`/`role`/`dir` as attributes; children are nodes or text. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "dataset") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-") || name === "role" || name === "for" || name === "list") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A user's text: its own direction, spaces kept. */
export const said = (text, props = {}) => el("span", { dir: "auto", ...props }, text);

export const byId = (id) => document.getElementById(id);

let numbers = 0;
/** An id that is nobody else's. */
export const newId = (name) => `${name}-${(numbers += 1)}`;

/** `text` with the stretches [start, end, className] marked; offsets count characters as Python does (code points). */
export function marked(text, stretches) {
  const points = Array.from(text);
  const parts = [];
  let place = 0;
  for (const [start, end, className, title] of [...stretches].sort((a, b) => a[0] - b[0] || b[1] - a[1])) {
    if (start < place || end <= start || end > points.length) continue; // the longer one stands
    if (start > place) parts.push(points.slice(place, start).join(""));
    parts.push(el("mark", { className, title: title ?? "" }, points.slice(start, end).join("")));
    place = end;
  }
  if (place < points.length) parts.push(points.slice(place).join(""));
  return parts;
}

/** Say something to screen readers; sighted users see it elsewhere. */
export function announce(text) {
  byId("status").textContent = text;
}

export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
