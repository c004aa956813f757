"""Compare, sweep, ablate, analyse: lists of variants and systems over one run."""
