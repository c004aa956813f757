// The page: a person, a question, answers side by side; see chain.js, history.js and answers.js for its parts.

import { AnswerCard } from "./answers.js";
import * as api from "./api.js";
import { announce, byId, count, el, newId } from "./dom.js";
import { History } from "./history.js";
import { field, values } from "./item_form.js";
import { Picker, slashFinds } from "./picker.js";

const TITLES = { base: "Base", sft: "SFT", guided: "Guided", final: "Final" };
const NOTES = { base: "before training", sft: "after SFT", guided: "after guided RL", final: "after RL" };

let run, task, user = null, stopping = null;
const before = new Map(); // column, person and question -> the answer with the history unchanged
const history = new History(() => {});
const person = new Picker(byId("person"), "Whose question it is", () => task.name, choose, true);
const other = new Picker(byId("other"), "Whose history instead", () => task.name, () => {});

function problem(error) {
  if (error instanceof api.NeedsKey) return askKey();
  notify(error.message);
}

/** One line at the top: what went wrong, or what was done. */
function notify(text, good = false) {
  byId("problem").textContent = text;
  byId("problem").classList.toggle("bad", !good);
  byId("problem").hidden = !text;
}

function askKey() {
  const dialog = byId("key-dialog");
  dialog.addEventListener("close", () => { api.setKey(byId("key").value); start(); }, { once: true });
  dialog.showModal();
}

async function start() {
  try {
    run = await api.about();
  } catch (error) {
    return problem(error);
  }
  document.title = `${run.name} · tagpr studio`;
  byId("run").replaceChildren("run ", el("b", {}, run.name));
  byId("task").replaceChildren(...run.tasks.map((one) => el("option", { value: one.name }, one.name)));
  byId("task-choice").hidden = run.tasks.length < 2;
  drawColumns();
  setTask(run.tasks[0]);
  document.documentElement.dataset.ready = "true";
}

function setTask(next) {
  task = next;
  byId("task-says").textContent = task.description;
  const names = task.question_fields.length ? task.question_fields : [""];
  const inputs = names.map((name) => field(name || "question", ""));
  if (!task.question_fields.length) inputs[0].querySelector("label").className = "sr";
  for (const input of inputs) {
    const area = input.querySelector("textarea");
    area.rows = names.length > 1 ? 1 : 2;
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("ask").requestSubmit();
    });
  }
  byId("question-fields").replaceChildren(...inputs);
  if (user !== null) choose(user, false);
  else history.load(null, []);
}

async function choose(id, isNew) {
  user = null; // until its history is there
  notify("");
  clearAnswers();
  byId("history").setAttribute("aria-busy", "true");
  try {
    history.load(task, isNew ? [] : await api.history(task.name, id));
    user = id;
  } catch (error) {
    return problem(error);
  } finally {
    byId("history").setAttribute("aria-busy", "false");
  }
  byId("forget").disabled = !history.items.length;
  announce(isNew ? "A new person: add history items to begin with." : `${count(history.items.length, "history item")}.`);
  byId("question-fields").querySelector("textarea").focus();
}

const columns = () => [
  ...[...run.systems].reverse().map((name) => ({ id: name, title: TITLES[name], note: NOTES[name], system: name, own: true })),
  { id: "other", title: "Another person's history", note: "", system: run.systems.at(-1), own: false },
  { id: "none", title: "No history", note: "", system: run.systems.at(-1), own: false },
];

function drawColumns() {
  byId("columns").replaceChildren(...columns().map((column, i) => {
    const id = newId("column");
    const box = el("input", { type: "checkbox", id, value: column.id, checked: i === 0 });
    if (column.id === "other") box.addEventListener("change", () => { byId("other").hidden = !box.checked; });
    return el("span", { className: `chip c-${column.id} s-${column.system}` }, box, el("label", { for: id }, column.title));
  }));
}

/** The request of a column, or a sentence that says what is missing. */
function requestOf(column, asked) {
  const tagpr = { task: task.name, ...(column.own ? history.payload() : {}) };
  if (task.question_fields.length) tagpr.fields = asked;
  if (column.id === "none") tagpr.history_of = "";
  if (column.id === "other") tagpr.history_of = other.chosen;
  const text = Object.values(asked).join("\n");
  return { model: column.system, user, messages: [{ role: "user", content: text }], tagpr };
}

async function ask(event) {
  event.preventDefault();
  const asked = values(byId("question-fields"));
  const text = Object.values(asked).join("\n").trim();
  const chosen = columns().filter((column) => byId("columns").querySelector(`[value=${column.id}]`).checked);
  if (user === null) return complain("Choose a person first.", person.input);
  if (!text) return complain("Write a question first.", byId("question-fields").querySelector("textarea"));
  if (!chosen.length) return complain("Choose at least one answer.", byId("columns").querySelector("input"));
  if (chosen.some((column) => column.id === "other") && !other.chosen) return complain("Choose whose history.", other.input);
  notify("");
  stopping?.abort();
  const mine = (stopping = new AbortController());
  const unchanged = !history.changes;
  const hooks = { onEvidence: underline, onDecided: (answers) => history.decide(answers) };
  const cards = chosen.map((column) => {
    const note = column.id === "other" ? other.chosen : column.own && !unchanged ? `what if: ${count(history.changes, "change")}` : column.note;
    return new AnswerCard({ ...column, note }, run, requestOf(column, asked), hooks);
  });
  byId("answers").replaceChildren(...cards.map((card) => card.node));
  byId("empty").hidden = true;
  byId("answers").scrollIntoView({ block: "nearest" }); // on a phone they begin below
  busy(true);
  announce(`Asking ${chosen.map((column) => column.title).join(", ")}.`);
  let marked = false;
  await Promise.all(cards.map(async (card) => {
    await card.ask(mine.signal);
    if (!card.result) return;
    const key = JSON.stringify([card.column.id, user, task.name, text]);
    if (card.column.own && unchanged) before.set(key, card.content);
    else if (card.column.own) card.compare(before.get(key));
    if (card.column.own && !marked && card === cards.find((one) => one.column.own)) underline(card, (marked = true));
  }));
  if (stopping === mine) busy(false);
}

function busy(yes) {
  byId("stop").hidden = !yes;
  byId("send").textContent = yes ? "Asking …" : "Ask";
  byId("answers").setAttribute("aria-busy", String(yes));
}

/** One card at a time underlines the history. */
function underline(card) {
  for (const button of document.querySelectorAll("#answers [aria-pressed]")) button.setAttribute("aria-pressed", "false");
  card.evidence.setAttribute("aria-pressed", "true");
  history.underline(card.result.evidence);
}

function complain(text, where) {
  notify(text);
  where.focus();
}

function clearAnswers() {
  stopping?.abort();
  byId("answers").replaceChildren();
  byId("empty").hidden = false;
}

function confirmForget() {
  if (user === null) return complain("Choose a person first.", person.input);
  byId("forget-says").replaceChildren("History (", count(history.items.filter((item) => item.stored).length, "item"), ") and judgements of ",
    el("b", { dir: "auto" }, user), " are removed from this server's store, for good.");
  byId("forget-command").textContent = `tagpr forget ${/^[\w.-]+$/.test(user) ? user : `'${user.replaceAll("'", "'\\''")}'`} ${run.name}`;
  byId("forget-dialog").returnValue = "";
  byId("forget-dialog").showModal();
}

async function forgetChosen() {
  if (byId("forget-dialog").returnValue !== "forget") return;
  try {
    const { removed } = await api.forget(user);
    const says = `Forgotten: ${count(removed.interactions, "history item")}, ${count(removed.feedback, "judgement")}.`;
    user = null;
    person.set(null);
    before.clear();
    history.load(null, []);
    clearAnswers();
    person.input.focus();
    notify(says, true);
  } catch (error) {
    problem(error);
  }
}

byId("ask").addEventListener("submit", ask);
byId("stop").addEventListener("click", () => stopping?.abort());
byId("reset").addEventListener("click", () => history.reset());
byId("add").addEventListener("click", () => (user === null ? complain("Choose a person first.", person.input) : history.add()));
byId("forget").addEventListener("click", confirmForget);
byId("forget-dialog").addEventListener("close", forgetChosen);
byId("task").addEventListener("change", () => setTask(run.tasks.find((one) => one.name === byId("task").value)));
slashFinds(person);
start();
