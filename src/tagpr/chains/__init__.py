"""Tagged reasoning chains: vocabulary, grammar and parser, teachers, filters, tagging, review."""
