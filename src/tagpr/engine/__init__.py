"""A checkpoint in, text and log-probabilities out.

    from tagpr.engine.loading import load_text_model
    from tagpr.engine.types import Sampling

    model = load_text_model(folder)                         # engine="vllm" for vLLM; `EndpointModel` for an endpoint
    rows = model.generate(prompts, Sampling(max_new_tokens=256, num_samples=4, temperature=1.0, seed=0))
    rows[0][0].text, rows[0][0].token_ids, rows[0][0].finished

`prompts` are token ids or chat messages. A completion's `text` is the assistant's whole turn without end and padding
tokens, `<think>` included however it came there; rewards, evaluation and serving read it as it is. `body` are its token
ids without the end token. A model that is loaded already, or being trained, is `TransformersModel(model, tokenizer)`.

Token ids of a text to learn: `text.learned_ids(tokenizer, text)`. Log-probabilities with gradient:
`shared_prompt.completion_logprobs`. Finding and loading checkpoints: `models`.
"""
