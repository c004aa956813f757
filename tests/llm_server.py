"""A real HTTP server that speaks the chat completions API and can misbehave: `python llm_server.py PORT_FILE ...`.

Replies are a function of the request body alone. The log has one line for each request (`ask KEY`) and for each
good reply handed over in full (`done KEY`).
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import selectors
from pathlib import Path

from llm_modes import answer, http

COUNT: dict[str, int] = {}
FAULTS = ("429", "429-after", "500", "hang", "cut", "broken", "shape", "empty", "close")


def content_for(body: dict) -> tuple[str, str]:
    """(reasoning, content) in the roles of teacher, judge and tagger, told apart by our prompts."""
    text = body["messages"][-1]["content"]
    if "points for each of" in text:
        digest = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        scores = {n: {"reason": "r", "score": 3 + (digest >> i) % 3} for i, n in enumerate(JUDGED)}
        return "", "```json\n" + json.dumps(scores | {"total": 99}) + "\n```"
    if "numbered sentences" in text:
        count = len(re.findall(r"^\[\d+\] ", text, re.M))
        names = re.findall(r"^([A-Z]+)\. ", text, re.M) or ["look_at_input", "inspect_examples", "decide_answer"]
        return "", "\n".join(f"{i}: {names[(i - 1) % len(names)]}" for i in range(1, count + 1))
    if "Write the reasoning chain below again" in text:
        chain = text.split("<chain>\n", 1)[1].rsplit("\n</chain>", 1)[0]
        return "", f"<analyze_input>{chain}</analyze_input>"
    if "Say what the job is" in text:
        return "", "Do the job."
    if "You mark one answer by one criterion" in text:
        return "", marked(text, body["model"])
    if "You keep notes on one person" in text:
        notes = re.findall(r"^- (.*)$", text, re.M)
        return "", "\n".join(f"- {note}" for note in notes[::-1])
    if "You compare two answers" in text:
        first, second = (len(text.split(f"Answer {place}:\n<<<\n", 1)[1].split("\n>>>", 1)[0]) for place in (1, 2))
        return "", f'{{"better": {1 if first >= second else 2}}}'  # the longer one; of equals the first shown
    answers = re.findall(r"-> (\w+)$", text, re.M) or ["net"]
    pick = answers[body.get("seed", 0) % len(answers)]
    return (
        f"The question is about a thing. The history has {answers[0]}. So I decide on {pick}.",
        f"<answer>{pick}</answer>",
    )


def marked(text: str, model: str) -> str:
    """A mark from 0 to the best by the text alone; the strict judge gives one less now and then, the vague one none."""
    digest = int(hashlib.sha256(text.encode()).hexdigest(), 16)
    best = int(re.findall(r"Marks are whole numbers from 0 to (\d+)", text)[0])
    mark = digest % (best + 1)
    if model == "strict" and (digest >> 8) % 4 == 0:
        mark = max(0, mark - 1)
    if model == "vague" and (digest >> 8) % 5 == 0:
        return "It depends on the person."
    return f'Here it is:\n```json\n{{"reason": "r", "score": {mark}}}\n```'


JUDGED = ("coherence", "accuracy", "completeness", "relevance")


class Connection(asyncio.Protocol):
    def __init__(self, options: argparse.Namespace, rng: random.Random, log) -> None:
        self.options, self.rng, self.log = options, rng, log
        self.buffer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport

    mode = ""  # the first part of the path where it is not v1: one misbehaviour of `llm_modes`

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, mark, rest = self.buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            self.mode = head.split(b" ", 2)[1].decode().strip("/").split("/")[0].removeprefix("v1")
            length = int(re.search(rb"content-length: *(\d+)", head.lower())[1])
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            key = hashlib.sha256(body).hexdigest()[:24]
            self.write_log(f"ask {key}")
            fault = self.rng.choice(FAULTS) if self.rng.random() < self.options.fault_rate else ""
            asyncio.get_running_loop().call_later(self.options.delay, self.reply, body, key, fault)

    def write_log(self, line: str) -> None:
        if self.log:
            os.write(self.log, (line + "\n").encode())

    def send(self, status: int, payload: bytes, extra: str = "", promised: int | None = None) -> None:
        length = len(payload) if promised is None else promised
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
        self.transport.write(head.encode() + payload)

    def reply(self, body: bytes, key: str, fault: str) -> None:
        if self.transport.is_closing():
            return
        if self.mode:
            COUNT[self.mode] = count = COUNT.get(self.mode, 0) + 1
            return self.transport.write(http(*answer(self.mode, json.loads(body), count)))
        reasoning, content = content_for(json.loads(body))
        message = {"role": "assistant", "content": "" if fault == "empty" else content}
        if reasoning and fault != "empty":
            message["reasoning_content"] = reasoning
        whole = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }  # fmt: skip
        payload = json.dumps(whole).encode()
        if fault == "429":
            self.send(429, b'{"error": {"message": "slow down"}}')
        elif fault == "429-after":
            self.send(429, b'{"error": {"message": "slow down"}}', "retry-after: 0.05\r\n")
        elif fault == "500":
            self.send(500, b"oops")
        elif fault == "hang":
            return
        elif fault == "cut":
            self.send(200, payload[: len(payload) // 2], promised=len(payload))
            self.transport.close()
        elif fault == "broken":
            self.send(200, payload[:-7])
        elif fault == "shape":
            self.send(
                200, self.rng.choice([b"[]", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b"null", b'"x"'])
            )
        elif fault == "close":
            self.transport.close()
        else:
            self.send(200, payload)
            if not fault:
                self.write_log(f"done {key}")


async def serve(options: argparse.Namespace) -> None:
    rng = random.Random(options.seed)
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if options.log else 0
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(options, rng, log), "127.0.0.1", 0, backlog=1024)
    temporary = options.port_file.with_suffix(".tmp")
    temporary.write_text(str(server.sockets[0].getsockname()[1]))
    temporary.rename(options.port_file)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", default="")
    # select() waits in microseconds, epoll in whole milliseconds rounded up: a call of 50 ms has to take 50 ms
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(parser.parse_args()))
