// What a person says of an answer: a thumb, and what would have been better. It goes to /v1/feedback.

import * as api from "./api.js";
import { announce, el, newId } from "./dom.js";
import { field } from "./item_form.js";

/** The buttons under a finished card. */
export function judging(card) {
  const task = card.run.tasks.find((one) => one.name === card.body.tagpr.task);
  const thanks = el("p", { className: "small thanks", tabIndex: -1 });
  const better = el("form", { className: "better", hidden: true, id: newId("better") });
  const buttons = el("div", { className: "actions", role: "group", "aria-label": "Your judgement" });
  const up = el("button", { type: "button", onclick: () => send("up", null) }, "👍 Good");
  const down = el("button", { type: "button", "aria-expanded": "false", "aria-controls": better.id, onclick: () => open() }, "👎 Not right");
  buttons.append(up, down);

  const input = field("better answer", "", task.kind === "text" ? [] : ["", ...task.labels]);
  better.append(input, el("div", { className: "actions" },
    el("button", { type: "submit", className: "primary" }, "Send"),
    el("span", { className: "small quiet" }, "Without a better answer it is only a thumb down.")));
  better.addEventListener("submit", (event) => {
    event.preventDefault();
    send("down", input.querySelector("[name]").value.trim() || null);
  });

  function open() {
    better.hidden = !better.hidden;
    down.setAttribute("aria-expanded", String(!better.hidden));
    if (!better.hidden) input.querySelector("[name]").focus();
  }

  async function send(rating, correction) {
    const { task: name, fields, history, without = [] } = card.body.tagpr;
    const body = {
      user: card.body.user, task: name, system: card.body.model, rating, better: correction,
      question: fields ?? card.body.messages[0].content, answer: card.content || card.result.text, without, history: history ?? null,
    };
    up.disabled = down.disabled = true;
    try {
      const { pair } = await api.judge(body);
      better.hidden = true;
      thanks.textContent = pair ? "Kept, with your answer as the better one." : "Kept. Thank you.";
      buttons.hidden = true;
      announce(thanks.textContent);
      thanks.focus();
    } catch (error) {
      thanks.textContent = error.message;
      up.disabled = down.disabled = false;
    }
  }

  return el("div", { className: "judging" }, buttons, better, thanks);
}
