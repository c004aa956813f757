// A chain as coloured steps: from text that is still being written, and from the server's segments at the end.

import { el, marked, said } from "./dom.js";

/** {tag, text, open} of each step in a chain's text so far; text outside steps has tag null. */
export function steps(text, tags) {
  const found = [];
  let rest = text;
  while (rest.trim()) {
    const opening = rest.match(/<([a-z][a-z0-9_]*)>/);
    if (!opening || !tags.includes(opening[1])) {
      const plain = rest.replace(/<[a-z0-9_/]*$/, ""); // a tag half written
      if (plain.trim()) found.push({ tag: null, text: plain.trim(), open: false });
      break;
    }
    const before = rest.slice(0, opening.index).trim();
    if (before) found.push({ tag: null, text: before, open: false });
    rest = rest.slice(opening.index + opening[0].length);
    const end = rest.indexOf(`</${opening[1]}>`);
    if (end < 0) {
      found.push({ tag: opening[1], text: rest.replace(/<[a-z0-9_/]*$/, "").trim(), open: true });
      break;
    }
    found.push({ tag: opening[1], text: rest.slice(0, end).trim(), open: false });
    rest = rest.slice(end + opening[1].length + 3);
  }
  return found;
}

/** The finished chain: the server's segments, every checkable claim underlined, true or not. */
export function finished({ text, segments, evidence }) {
  const points = Array.from(text);
  return segments.map(({ tag, text: own, start, end }) => {
    const inner = points.slice(start + tag.length + 2, end).join("");
    const from = start + tag.length + 2 + Array.from(inner).length - Array.from(inner.trimStart()).length;
    const length = Array.from(own).length;
    const claims = evidence.claims
      .map((claim) => [claim.start - from, claim.end - from, claim.true ? "claim" : "claim wrong", claim.true ? "so in what was shown" : "not so in what was shown"])
      .filter(([a, b]) => a >= 0 && b <= length);
    return { tag, text: own, claims, open: false };
  });
}

/** Fill `list` with steps. Steps that did not change stay as they are, so that nothing flickers. */
export function draw(list, rows, tags, meaning) {
  rows.forEach((row, i) => {
    const key = JSON.stringify(row);
    if (list.children[i]?.dataset.key === key) return;
    const name = row.tag === null ? "no tag" : row.tag.replaceAll("_", " ");
    const colour = row.tag === null ? "untagged" : `t${tags.indexOf(row.tag) % 10}`;
    const item = el("li", { className: `step ${colour}${row.open ? " open" : ""}`, dataset: { key } },
      el("b", { title: meaning[row.tag] ?? "" }, name), said(""));
    item.lastChild.append(...marked(row.text, row.claims ?? []));
    if (list.children[i]) list.children[i].replaceWith(item);
    else list.append(item);
  });
  while (list.children.length > rows.length) list.lastChild.remove();
}
