"""`PrefixCache`: keys and values of the beginnings of prompts, so that what was read once is not computed again.

A tree of blocks of tokens, bounded in bytes; what was used longest ago goes first. A block is found by the very tokens
of its prompt up to its end, so that a changed history simply is another path. Blocks of what all prompts have in common
(the instruction) belong to everybody; the others only to those whose text they hold: nobody can learn from the time of
an answer what another user's history says, and a forgotten user's blocks can be removed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 4
"""Tokens of a block: what is left over of what two prompts have in common is computed again."""

Key = tuple[tuple[str, ...], tuple[int, ...]]
"""(owners, the block's token ids), under the block before it."""


@dataclass(eq=False)
class _Block:
    key: Key
    parent: _Block | None
    kv: Tensor | None  # (layers, 2, Hkv, BLOCK, D)
    children: dict[Key, _Block] = field(default_factory=dict)


class PrefixCache:
    """Blocks of keys and values under the token ids that lead to them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._root = _Block(((), ()), None, None)
        # Least recently used first. A block is used after all behind it, so that the first one never has children.
        self._recent: OrderedDict[_Block, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def match(self, prompt: Sequence[int], owners: tuple[str, ...], public: int) -> list[Tensor]:
        """The kept blocks that `prompt` begins with, (layers, 2, Hkv, BLOCK, D) each; never the whole prompt.

        owners: the users whose text the prompt holds. public: how many of its first tokens are nobody's text.
        """
        path = self._path(prompt, owners, public)[: max(0, (len(prompt) - 1) // BLOCK)]
        self._use(path)
        return [block.kv for block in path if block.kv is not None]

    def store(
        self, prompt: Sequence[int], owners: tuple[str, ...], public: int, keys_values: Callable[[int, int], Tensor]
    ) -> None:
        """Keep the prompt's whole blocks. `keys_values(start, end)`: those of its tokens, (layers, 2, Hkv, n, D)."""
        path = self._path(prompt, owners, public)
        start, end = len(path) * BLOCK, len(prompt) // BLOCK * BLOCK
        if start < end:
            new = keys_values(start, end)
            for place in range(start, end, BLOCK):
                parent = path[-1] if path else self._root
                kv = new[:, :, :, place - start : place - start + BLOCK].clone()  # its own memory, freed alone
                block = _Block(_key(prompt, place, owners, public), parent, kv)
                parent.children[block.key] = block
                self.bytes += kv.nbytes
                path.append(block)
        self._use(path)
        while self.bytes > self.max_bytes and self._recent:
            self._remove(next(iter(self._recent)))

    def forget(self, owner: str) -> None:
        """Remove every block with text of a user."""
        for block in [block for block in self._recent if owner in block.key[0]]:
            if block in self._recent:  # not gone with one before it
                self._remove_tree(block)

    def texts(self) -> list[list[int]]:
        """The token ids of every kept path from its beginning to its end."""
        found = []
        for leaf in self._recent:
            if not leaf.children:
                ids: list[int] = []
                block: _Block | None = leaf
                while block is not None:
                    ids[:0] = block.key[1]
                    block = block.parent
                found.append(ids)
        return found

    def _path(self, prompt: Sequence[int], owners: tuple[str, ...], public: int) -> list[_Block]:
        path: list[_Block] = []
        block = self._root
        for place in range(0, len(prompt) // BLOCK * BLOCK, BLOCK):
            found = block.children.get(_key(prompt, place, owners, public))
            if found is None:
                break
            path.append(found)
            block = found
        return path

    def _use(self, path: Sequence[_Block]) -> None:
        for block in reversed(path):
            self._recent[block] = None
            self._recent.move_to_end(block)

    def _remove(self, block: _Block) -> None:
        del self._recent[block]
        if block.parent is not None:
            del block.parent.children[block.key]
        if block.kv is not None:
            self.bytes -= block.kv.nbytes
        block.kv = None

    def _remove_tree(self, block: _Block) -> None:
        for child in list(block.children.values()):
            self._remove_tree(child)
        self._remove(block)


def _key(prompt: Sequence[int], place: int, owners: tuple[str, ...], public: int) -> Key:
    end = place + BLOCK
    return () if end <= public else owners, tuple(prompt[place:end])
