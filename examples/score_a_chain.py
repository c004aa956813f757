"""Parse a tagged completion and score it with the paper's composite reward; no model is needed.

python examples/score_a_chain.py
"""

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.rewards.composite import CompositeReward
from tagpr.tasks import load_task

task, vocabulary = load_task("lamp-2"), load_vocabulary()
completions = {
    "right": "<think><analyze_input>A film about a ship in space.</analyze_input>"
    "<examine_examples>Two past films are set in space; both are 'sci-fi'.</examine_examples>"
    "<make_decision>So the tag is 'sci-fi'.</make_decision></think>sci-fi",
    "wrong answer": "<think><analyze_input>A film about a ship.</analyze_input>"
    "<examine_examples>Nothing is like it.</examine_examples>"
    "<make_decision>So 'comedy'.</make_decision></think>comedy",
    "no chain": "sci-fi",
    "unclosed tag": "<think><analyze_input>A film in space.</think>sci-fi",
}

reward = CompositeReward({task.name: task}, vocabulary)
scores = reward(
    prompts=["..."] * len(completions),
    completions=list(completions.values()),
    task=[task.name] * len(completions),
    target=["sci-fi"] * len(completions),
)
for (name, text), score in zip(completions.items(), scores, strict=True):
    response = parse_response(text, vocabulary)
    tags = " > ".join(segment.tag for segment in response.segments) or "none"
    faults = ", ".join(fault.kind for fault in response.faults) or "none"
    print(f"{name:<13} reward {score:+.3f}  answer {response.answer!r}  tags: {tags}  faults: {faults}")
