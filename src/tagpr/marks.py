"""The two marks around a chain, in every completion that has one: `<think>` CHAIN `</think>` ANSWER (paper, fig. 2)."""

THINK, END_THINK = "<think>", "</think>"
