"""Attention Residuals for a decoder that somebody else wrote.

A decoder in the usual style carries a hidden state from block to block and adds twice
in each: `h = h + attention(norm(h))`, `h = h + mlp(norm(h))`. `convert` takes those two
additions out and puts a residual stream in their place. The decoder's own `forward`,
its masks, positions and checkpoints stay as they are: it never looks inside what it
hands from block to block, so a stream's state can travel where the sum did.
"""

from collections.abc import Callable

from torch import Tensor, nn

PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


class StreamBlock(nn.Module):
    """One block of the decoder, two layers of the stream: reads and writes, no sums.

    The parts keep their names, so the decoder's checkpoints still fit. `position` counts
    blocks; the first begins the stream, the last of `n_blocks` does the final read.
    """

    def __init__(self, block: nn.Module, stream: nn.Module, position: int, n_blocks: int):
        super().__init__()
        for part in PARTS:
            setattr(self, part, getattr(block, part))
        self.shared = (stream,)        # in a tuple: the decoder owns it, not each block
        self.position, self.n_blocks = position, n_blocks

    def forward(self, state, **context):
        """state: the embedding [B, T, d] in the first block, the stream's state in the
        others; context (masks, positions) goes to the attention unseen. Returns the next
        state, and from the last block the hidden state [B, T, d]."""
        (stream,), layer = self.shared, 2 * self.position
        if self.position == 0:
            state = stream.begin(state)
        h = self.input_layernorm(stream.read(state, layer))           # [B, T, d]
        state = stream.write(state, layer, output(self.self_attn(h, **context)))
        h = self.post_attention_layernorm(stream.read(state, layer + 1))
        state = stream.write(state, layer + 1, output(self.mlp(h)))
        last = self.position == self.n_blocks - 1
        return stream.read(state, layer + 2) if last else state


def output(returned: Tensor | tuple) -> Tensor:
    """Hugging Face's attentions return (output, attention weights)."""
    return returned[0] if isinstance(returned, tuple) else returned


def convert(decoder: nn.Module, residual: Callable[[int, int], nn.Module]) -> nn.Module:
    """Put a residual stream under `decoder`, in place, and return the decoder.

    decoder: has `layers`, a ModuleList of blocks with the parts PARTS, as the Llama
    family has in Hugging Face's transformers: pass `model.model` there (tried by hand on
    Llama, Mistral and Qwen3 of transformers 5.15, with their cached `generate`). residual:
    residual(n_layers, d_model) builds the stream, for two layers a block: `FullAttnRes`,
    or `partial(BlockAttnRes, block_size=4)`. Its parameters become `decoder.stream.*`,
    on the device and in the dtype of the decoder.

    With queries still zero every read is the mean of what PreNorm sums, and the norms
    divide the difference out: the decoder computes what it did, up to the norms' eps.
    That is felt where hidden states are small: at a mean square of 1e-4, an eps of 1e-6
    changes what a norm returns by half a per cent.

    Raises ValueError for a decoder without such layers, and for one converted before.
    """
    blocks = getattr(decoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not blocks:
        raise ValueError(
            f"{type(decoder).__name__} has no ModuleList `layers` with blocks in it: pass "
            "the module that holds the blocks, for instance model.model"
        )
    if isinstance(blocks[0], StreamBlock):
        raise ValueError(f"{type(decoder).__name__} is on a stream: convert it once")
    if missing := [part for part in PARTS if not hasattr(blocks[0], part)]:
        raise ValueError(
            f"{type(blocks[0]).__name__} has no {', '.join(missing)}: a block needs the "
            f"parts {', '.join(PARTS)}"
        )
    gain = blocks[0].input_layernorm.weight                           # [d]
    stream = residual(2 * len(blocks), len(gain)).to(gain)
    decoder.stream = stream
    decoder.layers = nn.ModuleList(
        StreamBlock(block, stream, position, len(blocks))
        for position, block in enumerate(blocks)
    )
    return decoder
