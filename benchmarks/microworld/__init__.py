"""Worlds small enough that the whole paper runs on them in minutes: users with rule-governed tastes in dishes.

    world.py     people, dishes, questions; LaMP-like files of them
    teacher.py   written chains: an imperfect rule over the shown history, never the reference
    plain.py     plain, untagged text of the world, which the base model is pretrained on
    base.py      the word-level tokenizer and the Qwen3-architecture model trained from scratch on that text
    build.py     `build_microworld(folder, seed)`: a folder with data, rollouts, model and recipe
    table.py     the ablation table: every variant through tagpr's own stages, several processes, resumable

Run all of it with `make bench-microworld`. Without the pipeline, with `make bench-method`:

    worlds.py    one-step, counting, serial: three worlds behind one protocol, each with a dial and a teacher
    cell.py      what a cell of the table is, and its sizes
    cell_data.py its questions, chains, prompts and rewards
    cells.py     run a cell: SFT on labels, chains or both, then RL, on equal labels and steps
    summary.py   from cells to the table
    page.py      the table and its chart in `docs/method.md`
"""
