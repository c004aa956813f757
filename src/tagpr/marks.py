"""The two marks around a chain, in every completion that has one: `<think>` CHAIN `</think>` ANSWER (paper, eq. 7)."""

THINK, END_THINK = "<think>", "</think>"
