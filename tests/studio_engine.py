"""An engine that reads the prompt as a model would and answers at once, so that the studio has chains to show."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

from tagpr.engine.types import Completion
from tagpr.serve.batching import EmbeddedEngine
from tagpr.serve.served_run import ServedRun

STEP = 0.01
"""Seconds between two pieces of a stream."""


class ScriptedEngine(EmbeddedEngine):
    """The section of the first history item that the prompt shows, with a chain that quotes it; `misc` without any."""

    def __init__(self, run) -> None:
        super().__init__(ServedRun.open(run))
        self.pool = ThreadPoolExecutor(8)

    def submit(self, request) -> "Future[list[Completion]]":
        return self.pool.submit(self._write, request)

    def _write(self, request) -> list[Completion]:
        prompt = self.tokenizer(request.system).decode(list(request.prompt_ids), skip_special_tokens=False)
        items = re.findall(r"^- (.*) -> (\w+)$", prompt, re.MULTILINE)
        first, section = items[0] if items else ("", "misc")
        found = f'"{first}" is {section}. "no such text" is there too.' if items else "There is no history."
        text = (
            f"<think>\n<examine_examples> {found} </examine_examples>\n"
            f"<make_decision> {section} </make_decision>\n</think>\n{section}"
        )
        for place in range(0, len(text), 8):
            if request.on_text is not None and not request.cancelled.is_set():
                request.on_text(0, text[place : place + 8])
                time.sleep(STEP)
        return [Completion([], None, True, text=text, reply_tokens=20)]

    def close(self) -> None:
        self.pool.shutdown()
        super().close()
