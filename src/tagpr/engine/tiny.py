"""A two-layer random Llama and a small byte-level tokenizer, built on the spot, for `recipes/smoke.yaml` and tests.

It knows nothing and is only there to run every stage for real in seconds. The tokenizer is a byte-level BPE trained on
the few lines below, so no file and no network is needed and every machine gets the same ids.
"""

from pathlib import Path

_CORPUS = """
You answer for one person. Think inside <think> and </think>, in short tagged steps, then write the answer.
<analyze_input>the question asks for a label for this text</analyze_input>
<examine_examples>the closest past items are about the same words and have the same label</examine_examples>
<identify_patterns>most of the past items have one label, which this person uses often</identify_patterns>
<evaluate_reference>the reference fits</evaluate_reference> <compare_entities>the first is closer</compare_entities>
<synthesize_findings>both the words and the history point to it</synthesize_findings>
<make_decision>so the answer is</make_decision> <verify_conclusion>it is among the allowed ones</verify_conclusion>
<formulate_conclusion>write it in this person's own words and style, short and lower case</formulate_conclusion>
library for the Python and Perl programming languages, development files, tools, utilities, documentation, games, net,
graphics, sound, video, science, mathematics, text, web, system administration, editors, shells and desktop programs
"""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a random two-layer Llama (about 0.2M parameters) and its tokenizer to `folder`; returns `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS.splitlines(), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=8192,
    )
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|im_start|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder
