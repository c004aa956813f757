"""The two attentions of padded rows against each other and against each completion alone."""

import pytest
import torch

from tagpr.engine.group_attention import causal
from tagpr.engine.padded_rows import GatheredLayout, MaskedLayout, pad_rows, padded_layout
from tagpr.engine.shared_prompt import PromptGroup

GROUPS = [
    PromptGroup(range(3, 12), [[3, 4, 5], [6], [7, 8, 9, 10]]),
    PromptGroup(range(3, 7), [[3, 4]]),
    PromptGroup(range(3, 8), []),
]


def attended(layout, q, k, v):
    return layout.attend(0, q, k, v, 0.3, None)


def test_completions_are_read_as_they_would_be_alone():
    rows = pad_rows(GROUPS, pad_id=0)
    generator = torch.Generator().manual_seed(1)
    batch, width = rows.segment_ids.shape
    q, k, v = (torch.randn(batch, heads, width, 8, generator=generator) for heads in (4, 2, 2))
    gathered = attended(GatheredLayout(rows.segment_ids), q, k, v)
    masked = attended(MaskedLayout(rows.segment_ids, rows.position_ids), q, k, v)
    assert gathered.shape == masked.shape == (batch, width, 4, 8)
    for b, group in enumerate(GROUPS):
        for number in range(len(group.completions) + 1):
            segment = rows.segment_ids[b]
            places = ((segment == 0) | (segment == number)).nonzero().squeeze(1)
            alone = causal(q[b : b + 1, :, places], k[b : b + 1, :, places], v[b : b + 1, :, places], 0.3, None)
            for found in (gathered, masked):
                assert torch.allclose(found[b, places], alone[0].transpose(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "prompt", "kind"),
    [
        (torch.bfloat16, 9, GatheredLayout),
        (torch.float32, 9, MaskedLayout),
        (torch.bfloat16, 2047, MaskedLayout),  # and two tokens: scores of long rows would fill the memory
    ],
)
def test_products_where_a_cpu_computes_in_bf16(dtype, prompt, kind):
    rows = pad_rows([PromptGroup([3] * prompt, [[4, 5]])], pad_id=0)
    assert type(padded_layout(rows.segment_ids, rows.position_ids, dtype)) is kind
