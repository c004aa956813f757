// The report's theme switch and case browser. Data sits in the page, gzipped; all text goes in through textContent.
"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const paint = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-pressed", String(isDark())); theme.setAttribute("aria-label", "Dark colours"); };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; paint(); });
  paint();

  const byId = (id) => document.getElementById(id);
  if (!byId("data-index")) return;

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  const chunks = new Map(); // a few unpacked chunks, the latest last
  async function caseAt(number) {
    const chunk = Math.floor(number / index.chunk);
    let found = chunks.get(chunk);
    if (!found) {
      found = unpack("data-" + chunk);
      chunks.set(chunk, found);
      if (chunks.size > 6) chunks.delete(chunks.keys().next().value);
    }
    return (await found)[number % index.chunk];
  }

  function el(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const PAGE = 50;
  const MARK = { better: "▲", worse: "▼", same: "=" };
  const NAMES = { base: "Base", sft: "SFT", guided: "Guided RL", final: "Final", "final-other-history": "Final, another user's history" };
  let index, search = null, found = [], at = 0, shown = -1;

  function option(select, values) { for (const value of values) select.append(el("option", { value }, value)); }

  async function filter() {
    const query = byId("query").value.trim().toLowerCase();
    const task = byId("task").value, outcome = byId("outcome").value, fault = byId("fault").value;
    if (query && !search) { byId("count").textContent = "Unpacking the search texts…"; search = await unpack("data-search"); }
    const words = query.split(/\s+/).filter(Boolean);
    found = [];
    index.rows.forEach((row, number) => {
      if (task && row[2] !== task) return;
      if (outcome && row[3] !== outcome) return;
      if (fault && !row[5].includes(fault)) return;
      if (words.length && !words.every((word) => search[number].includes(word))) return;
      found.push(number);
    });
    at = 0;
    byId("count").textContent = found.length === index.rows.length ? `${found.length} cases` : `${found.length} of ${index.rows.length} cases`;
    await select(0, false);
  }

  function drawList() {
    const start = Math.floor(at / PAGE) * PAGE;
    byId("list").replaceChildren(...found.slice(start, start + PAGE).map((number, i) => {
      const [id, user, task, outcome, question] = index.rows[number];
      const button = el("button", { type: "button", "aria-current": start + i === at ? "true" : null },
        el("span", { class: "q", dir: "auto" }, el("span", { class: "mark " + outcome, "aria-hidden": "true" }, MARK[outcome] + " "), question || id),
        el("small", { dir: "auto" }, `${task} · ${user} · ${outcome}`));
      button.addEventListener("click", () => select(start + i, true));
      return el("li", {}, button);
    }));
    byId("before").disabled = start === 0;
    byId("after").disabled = start + PAGE >= found.length;
    byId("page").textContent = found.length ? `${start + 1}–${Math.min(start + PAGE, found.length)}` : "";
  }

  async function select(position, focus) {
    at = Math.max(0, Math.min(position, found.length - 1));
    drawList();
    const box = byId("case");
    if (!found.length) { shown = -1; box.replaceChildren(el("p", {}, "No case matches. Clear the search or a filter.")); return; }
    const number = found[at];
    shown = number;
    const value = await caseAt(number);
    if (shown !== number) return; // another one was chosen meanwhile
    box.replaceChildren(...draw(value));
    const current = byId("list").querySelector('[aria-current="true"]');
    if (current && focus) { current.focus({ preventScroll: true }); current.scrollIntoView({ block: "nearest" }); }
  }

  function draw(value) {
    const answers = Object.keys(value.systems).sort((a, b) => index.systems.indexOf(a) - index.systems.indexOf(b));
    return [
      el("div", { class: "head" }, el("span", { class: "mark " + value.outcome }, `${MARK[value.outcome]} ${value.outcome} than Base`.replace("same than", "same as")), el("span", {}, value.task), el("span", { dir: "auto" }, "user " + value.user), el("span", { dir: "auto" }, value.id)),
      el("h3", {}, "Question"), el("p", { class: "question", dir: "auto" }, value.question || "(not stored)"),
      el("h3", {}, "Reference"), el("p", { class: "target", dir: "auto" }, value.target),
      el("h3", {}, "History of this user"), history(value),
      el("h3", {}, "What each model made of it"),
      el("div", { class: "answers" }, ...answers.map((name) => answer(name, value.systems[name]))),
    ];
  }

  function history(value) {
    if (!value.history.length) return el("p", {}, "None.");
    return el("ul", { class: "history", tabindex: "0", "aria-label": "History" }, ...value.history.map((item) => {
      const inputs = item.fields.filter(([name]) => name !== item.output).map(([, text]) => text).join(" — ");
      const output = item.fields.filter(([name]) => name === item.output).map(([, text]) => text).join(" ");
      return el("li", { class: item.shown ? null : "unshown" }, el("span", { dir: "auto" }, (item.date ? item.date + " " : "") + inputs + (item.shown ? "" : " (not in the prompt)")), output ? el("b", { dir: "auto" }, output) : null);
    }), value.more ? el("li", { class: "unshown" }, `and ${value.more} more`) : null);
  }

  function answer(name, value) {
    const scores = Object.entries(value.scores).map(([metric, score]) => `${metric} ${score}`).join(", ");
    const whose = value.history.startsWith("other:") ? `given the history of ${value.history.slice(6)}` : value.history === "none" ? "given no history" : null;
    return el("section", { class: "answer s-" + name.replace(/[^\w-]/g, "") , "aria-label": NAMES[name] || name },
      el("h4", {}, NAMES[name] || name, el("small", {}, `${value.tokens} tokens`)),
      whose ? el("p", { class: "faults" }, whose) : null,
      ...value.steps.map(step),
      el("p", { class: "said", dir: "auto" }, value.answer || "(no answer)", verdict(value)),
      el("small", {}, scores),
      value.faults.length ? el("p", { class: "faults" }, "Faults: " + value.faults.join(", ")) : null);
  }

  function verdict(value) {
    if (!("accuracy" in value.scores)) return null;
    return value.scores.accuracy ? el("span", { class: "right" }, " ✓", el("span", { class: "sr" }, " right")) : el("span", { class: "wrong" }, " ✗", el("span", { class: "sr" }, " wrong"));
  }

  function step([tag, text, quotes]) {
    const number = index.tags.indexOf(tag);
    const node = el("div", { class: "step " + (tag && number >= 0 ? "t" + (number % 10) : "untagged"), dir: "auto" }, el("b", {}, tag ? `<${tag}>` : "outside any tag"));
    let rest = text;
    for (const [quoted, seen] of quotes) {
      const start = rest.indexOf(quoted);
      if (start < 0) continue;
      node.append(rest.slice(0, start), el("q", { class: seen ? "seen" : "unseen", title: seen ? "in this user's history" : "not in this user's history" }, quoted));
      rest = rest.slice(start + quoted.length);
    }
    node.append(rest);
    return node;
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === "/") { event.preventDefault(); byId("query").focus(); }
    else if (event.key === "j" && index) select(at + 1, true);
    else if (event.key === "k" && index) select(at - 1, true);
  });
  for (const link of document.querySelectorAll("a[data-outcome]")) link.addEventListener("click", () => { byId("task").value = link.dataset.task; byId("outcome").value = link.dataset.outcome; filter(); });
  let waiting = 0;
  byId("query").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  for (const id of ["task", "outcome", "fault"]) byId(id).addEventListener("change", filter);
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  byId("before").addEventListener("click", () => select(Math.floor(at / PAGE) * PAGE - PAGE, false));
  byId("after").addEventListener("click", () => select(Math.floor(at / PAGE) * PAGE + PAGE, false));

  if (typeof DecompressionStream === "undefined") { byId("count").textContent = "This browser is too old for the case browser (it needs DecompressionStream)."; return; }
  unpack("data-index").then(async (value) => {
    index = value;
    option(byId("task"), index.tasks);
    option(byId("fault"), [...new Set(index.rows.flatMap((row) => row[5]))].sort());
    await filter();
    root.dataset.ready = "true";
  });
})();
