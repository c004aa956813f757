// One card per answer: the chain as it is written, what it stands on, and what one can say and ask about it.

import * as api from "./api.js";
import { draw, finished, steps } from "./chain.js";
import { announce, count, el, newId, said } from "./dom.js";
import { judging } from "./judging.js";

const TOGETHER = 4; // questions on their way at once when items are left out one by one
const LONG = 160; // characters

export class AnswerCard {
  /** `column`: {title, note, system}; `run`: /v1/run; `body`: the request; `hooks`: {onEvidence, onDecided}. */
  constructor(column, run, body, hooks) {
    Object.assign(this, { column, run, body, hooks, tags: Object.keys(run.tags), chain: "", content: "", result: null });
    const title = newId("card");
    this.said = el("p", { className: "said", dir: "auto" });
    this.was = el("p", { className: "was", hidden: true });
    this.steps = el("ol", { className: "chain", "aria-label": `Chain of ${column.title}` });
    this.facts = el("p", { className: "small quiet" }, "waiting …");
    this.more = el("div", { className: "more" });
    this.node = el("article", { className: `answer s-${column.system} c-${column.id}`, "aria-labelledby": title, "aria-busy": "true" },
      el("h3", { id: title }, column.title, el("small", { className: "quiet" }, column.note)),
      this.said, this.was, this.steps, this.facts, this.more);
  }

  /** Ask, show the answer as it comes; resolves when it is whole, and never rejects. */
  async ask(signal) {
    const began = performance.now();
    let first = null;
    try {
      const { tagpr, reason } = await api.stream(this.body, (delta) => {
        if (first === null && (delta.reasoning_content || delta.content)) first = performance.now() - began;
        this.chain += delta.reasoning_content ?? "";
        this.content += delta.content ?? "";
        this.say(this.content);
        draw(this.steps, steps(this.chain, this.tags), this.tags, this.run.tags);
        this.facts.textContent = "writing …";
      }, signal);
      this.result = { ...tagpr, answer: this.content, reason };
      this.finish((performance.now() - began) / 1000, (first ?? 0) / 1000);
    } catch (error) {
      const stopped = error.name === "AbortError";
      this.facts.textContent = stopped ? "stopped" : "";
      if (!stopped) this.more.append(el("p", { className: "notice bad" }, error.message));
      announce(stopped ? "Stopped." : `${this.column.title}: ${error.message}`);
      this.node.classList.add("failed");
    } finally {
      this.node.setAttribute("aria-busy", "false");
    }
    return this;
  }

  /** The answer so far; a long one in smaller letters, and scrolled by keyboard too. */
  say(text) {
    const long = text.length > LONG;
    this.said.textContent = text;
    this.said.classList.toggle("long", long);
    if (long) this.said.tabIndex = 0;
  }

  finish(seconds, first) {
    const { evidence, faults, reason } = this.result;
    draw(this.steps, finished(this.result), this.tags, this.run.tags);
    if (!this.content) this.said.replaceChildren(el("span", { className: "quiet" }, reason === "length" ? "no answer: cut off by the limit of tokens" : "no answer"));
    const cited = evidence.items.filter((item) => item.cited).length;
    const shown = evidence.items.length;
    const facts = [shown ? `${count(shown, "history item")} read, ${cited} cited` : "no history read"];
    const holding = evidence.claims.filter((claim) => claim.true).length;
    if (evidence.claims.length) facts.push(`${holding} of ${count(evidence.claims.length, "claim holds", "claims hold")}`);
    facts.push(`${seconds.toFixed(1)} s, first words after ${first.toFixed(1)} s`);
    this.facts.textContent = facts.join(" · ");
    if (faults.length) {
      const list = el("ul", {}, ...faults.map((fault) => el("li", {}, fault.message || fault.kind.replaceAll("_", " "))));
      this.more.append(el("details", {}, el("summary", {}, `Form: ${count(faults.length, "fault")}`), list));
    }
    if (this.column.id === "other") this.more.append(this.foreignHistory());
    if (this.column.own) this.more.append(this.questions(), judging(this));
    announce(`${this.column.title} answers: ${this.content || "nothing"}.`);
  }

  /** What the same column said before the history was changed. */
  compare(before) {
    if (before === undefined) return;
    this.was.hidden = false;
    const same = before === this.content;
    this.was.classList.toggle("changed", !same);
    this.was.replaceChildren(...(same ? ["The same as without your changes."] : ["Without your changes: ", said(before || "no answer")]));
  }

  foreignHistory() {
    const rows = this.result.evidence.items.map((item) => el("li", { className: item.cited ? "cited" : "" }, said(Object.values(item.fields).join(" · "))));
    return el("details", {}, el("summary", {}, "The history it read"), el("ol", { className: "foreign" }, ...rows));
  }

  questions() {
    this.evidence = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.hooks.onEvidence(this) }, "Underline its evidence");
    this.why = el("button", { type: "button", onclick: () => this.leaveOut(), hidden: !this.result.evidence.items.length }, "What would change its mind?");
    this.whyNote = el("p", { className: "small quiet", role: "status" });
    return el("div", {}, el("div", { className: "actions" }, this.why, this.evidence), this.whyNote);
  }

  /** Ask again without each item that was read, one at a time. */
  async leaveOut() {
    this.hooks.onEvidence(this);
    const items = this.result.evidence.items.map((item) => item.id);
    const answers = new Map(), waiting = [...items];
    this.why.disabled = true;
    const worker = async () => {
      for (let id; (id = waiting.shift()) !== undefined; ) {
        const { content } = await api.answer(this.without(id));
        answers.set(id, content);
        this.whyNote.textContent = `Left out ${answers.size} of ${items.length} …`;
      }
    };
    try {
      await Promise.all(Array.from({ length: TOGETHER }, worker));
      const decisive = new Map([...answers].filter(([, content]) => content !== this.content));
      this.whyNote.textContent = decisive.size
        ? `Without ${count(decisive.size, "item")} of ${items.length} the answer would be another: see the history.`
        : `No single one of the ${count(items.length, "item")} changes the answer.`;
      this.hooks.onDecided(decisive);
    } catch (error) {
      this.whyNote.textContent = error.message;
    } finally {
      this.why.disabled = false;
    }
  }

  without(id) {
    const { history, without = [], ...ours } = this.body.tagpr;
    const shown = history ? { history: history.filter((item) => item.id !== id) } : { without: [...without, id] };
    return { ...this.body, tagpr: { ...ours, ...shown } };
  }
}
