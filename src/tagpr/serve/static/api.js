// The server's routes. Every failure is an Error whose message can be shown.

let key = sessionStorage.getItem("tagpr-key") ?? "";

export function setKey(value) {
  key = value;
  sessionStorage.setItem("tagpr-key", value);
}

export class NeedsKey extends Error {}

async function send(path, options = {}) {
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let reply;
  try {
    reply = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is `tagpr studio` still running?");
  }
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => null);
  const message = body?.error?.message ?? `The server answers with status ${reply.status}.`;
  throw reply.status === 401 ? new NeedsKey(message) : new Error(message);
}

const json = async (path, options) => (await send(path, options)).json();
const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");

export const about = () => json("/v1/run");

export async function users(task, prefix, limit) {
  const query = new URLSearchParams({ task, prefix, limit });
  return (await json(`/v1/users?${query}`)).data.map((user) => user.id);
}

export async function history(task, user) {
  return (await json(`${path("v1", "users", user, "interactions")}?${new URLSearchParams({ task })}`)).data;
}

export const forget = (user) => json(path("v1", "users", user), { method: "DELETE" });

export const judge = (body) => json("/v1/feedback", { method: "POST", body: JSON.stringify(body) });

const chat = "/v1/chat/completions";

/** One whole answer. */
export async function answer(body, signal) {
  const reply = await json(chat, { method: "POST", body: JSON.stringify(body), signal });
  return { content: reply.choices[0].message.content, tagpr: reply.choices[0].tagpr };
}

/** An answer as it is written: `onDelta({reasoning_content?, content?})` per piece; returns the last event's `tagpr`. */
export async function stream(body, onDelta, signal) {
  const reply = await send(chat, { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "", ours = null, reason = null;
  for (;;) {
    const { value, done } = await reader.read();
    waiting += value ?? "";
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return { tagpr: ours, reason };
      const { choices, error } = JSON.parse(data);
      if (error) throw new Error(error.message);
      for (const choice of choices) {
        if (choice.delta) onDelta(choice.delta);
        ours = choice.tagpr ?? ours;
        reason = choice.finish_reason ?? reason;
      }
    }
    if (done) throw new Error("The server broke off in the middle of the answer. Ask again.");
  }
}
