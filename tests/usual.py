"""Decoders written the usual way, and some that only look so: small, without a download."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class UsualAttention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, h, mask=None):
        q, k, v = self.qkv(h).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        return self.out(mixed), None       # as Hugging Face's: (output, weights)


def usual_mlp(d):
    return nn.Sequential(nn.Linear(d, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))


class UsualBlock(nn.Module):
    def __init__(self, d, eps=None):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(d, eps)
        self.self_attn = UsualAttention(d)
        self.post_attention_layernorm = nn.RMSNorm(d, eps)
        self.mlp = usual_mlp(d)

    def forward(self, h, **context):
        h = h + self.self_attn(self.input_layernorm(h), **context)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class UsualDecoder(nn.Module):
    def __init__(self, d=16, n_blocks=3, eps=None, block=UsualBlock):
        super().__init__()
        self.embed_tokens = nn.Embedding(11, d)
        self.layers = nn.ModuleList(block(d, eps) for _ in range(n_blocks))
        self.norm = nn.RMSNorm(d, eps)

    def forward(self, tokens, **context):
        h = self.embed_tokens(tokens)
        for block in self.layers:
            h = block(h, **context)
        return self.norm(h)


def usual(**options):
    torch.manual_seed(0)
    return UsualDecoder(**options).double()


# ---- Blocks that convert has to understand -----------------------------------------------


class Sandwich(UsualBlock):
    """Norms behind the attention and the MLP, too, and names that nobody has listed."""

    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.behind_attention, self.behind_mlp = nn.RMSNorm(d), nn.LayerNorm(d)

    def forward(self, h, **context):
        out, _ = self.self_attn(self.input_layernorm(h), **context)
        h = self.behind_attention(out) + h
        return h + self.behind_mlp(self.mlp(self.post_attention_layernorm(h)))


class Multiplied(UsualBlock):
    """Adds a part of what its layers compute, as Granite; the factor is in the code."""

    def forward(self, h, **context):
        out, _ = self.self_attn(self.input_layernorm(h), **context)
        h = h + 0.22 * out
        return h - 0.3 * self.mlp(self.post_attention_layernorm(h))


class Positional(UsualBlock):
    """Takes the mask by position, and gives it on under another name."""

    def forward(self, h, attention_mask, scale=1.0):
        h = h + self.self_attn(self.input_layernorm(h), mask=attention_mask)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class Packing(UsualBlock):
    """Gives two of its arguments on as one."""

    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.self_attn = Turned(d)

    def forward(self, h, cos, sin):
        h = h + self.self_attn(self.input_layernorm(h), tables=(cos, [sin]))
        return h + self.mlp(self.post_attention_layernorm(h))


class Turned(UsualAttention):
    def forward(self, h, tables):
        cos, (sin,) = tables
        return super().forward(h * cos - h.roll(1, -1) * sin)[0]


class Choosing(UsualBlock):
    """Goes another way for an argument that decoders rarely give, as GPT-2's blocks do."""

    def forward(self, h, mask=None, encoder=None):
        h = h + self.self_attn(self.input_layernorm(h), mask=mask)[0]
        if encoder is not None:
            h = h + self.cross_attn(h, encoder)
        return h + self.mlp(self.post_attention_layernorm(h))


class Weightless(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.input_layernorm = nn.RMSNorm(d, elementwise_affine=False)
        self.post_attention_layernorm = nn.LayerNorm(d, elementwise_affine=False)


class Torch(nn.Module):
    """With PyTorch's own attention, which takes the hidden state three times."""

    def __init__(self, d, eps=None):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.MultiheadAttention(d, 2, batch_first=True)
        self.drop, self.mlp = nn.Dropout(0.5), usual_mlp(d)

    def forward(self, h, mask=None):
        x = self.ln_1(h)
        h = h + self.drop(self.attn(x, x, x, attn_mask=mask, need_weights=False)[0])
        return h + self.mlp(self.ln_2(h))


class InPlace(UsualBlock):
    def forward(self, h, **context):
        out, _ = self.self_attn(self.input_layernorm(h), **context)
        out += h
        last = self.mlp(self.post_attention_layernorm(out))
        last += out
        return last


class OneLayer(nn.Module):
    """A mixer alone, as in Mamba."""

    def __init__(self, d, eps=None):
        super().__init__()
        self.norm, self.mixer = nn.RMSNorm(d, eps), usual_mlp(d)

    def forward(self, h):
        return h + self.mixer(self.norm(h))


class Flattening(UsualBlock):
    """Its MLP sees a row of tokens, as Llama 4's experts do."""

    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.mlp = nn.Sequential(nn.Flatten(0, 1), self.mlp)

    def forward(self, h, **context):
        h = h + self.self_attn(self.input_layernorm(h), **context)[0]
        return h + self.mlp(self.post_attention_layernorm(h)).view(h.shape)


UNDERSTOOD = {
    cls.__name__: cls for cls in
    (UsualBlock, Sandwich, Multiplied, Weightless, Torch, InPlace, OneLayer, Flattening)
}


# ---- Blocks that convert has to refuse, with a word of why -------------------------------


class Parallel(UsualBlock):
    def forward(self, h):
        x = self.input_layernorm(h)
        return h + self.self_attn(x)[0] + self.mlp(self.post_attention_layernorm(h))


class Gated(UsualBlock):
    """A learned scale that would be read once and never learn again."""

    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, h):
        h = h + self.gamma * self.self_attn(self.input_layernorm(h))[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class Buffered(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.register_buffer("scale", torch.ones(()))


class DroppedOut(UsualBlock):
    def forward(self, h):
        h = h + F.dropout(self.self_attn(self.input_layernorm(h))[0], 0.1, self.training)
        return h + self.mlp(self.post_attention_layernorm(h))


class OnlyWhenTraining(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0]
        scale = 0.5 if self.training else 1
        return h + scale * self.mlp(self.post_attention_layernorm(h))


class Bent(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0].tanh()
        return h + self.mlp(self.post_attention_layernorm(h))


class Spare(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.cross_attn = UsualAttention(d)


class NoNorm(UsualBlock):
    """As OLMo 2: norms behind, none in front."""

    def forward(self, h):
        h = h + self.input_layernorm(self.self_attn(h)[0])
        return h + self.post_attention_layernorm(self.mlp(h))


class Identity(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.post_attention_layernorm = nn.Identity()


class Pair(UsualBlock):
    def forward(self, h):
        return super().forward(h), None


class Replacing(UsualBlock):
    """No residual connection around its MLP."""

    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0]
        return self.mlp(self.post_attention_layernorm(h))


class Idle(UsualBlock):
    def forward(self, h):
        return h


class Wide(UsualBlock):
    """Float32 for what it adds, whatever it is given."""

    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0].float()
        return h + self.mlp(self.post_attention_layernorm(h.float()))


class Clamped(UsualBlock):
    """As models in half precision do, far out."""

    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0].clamp(-6e4, 6e4)
        return h + self.mlp(self.post_attention_layernorm(h))


class OwnMask(UsualBlock):
    def forward(self, h, mask=None):
        if mask is None:
            mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).tril()
        h = h + self.self_attn(self.input_layernorm(h), mask=mask)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class FlagOfNone(UsualBlock):
    def forward(self, h, mask=None):
        h = h + self.self_attn(self.input_layernorm(h), mask=mask, causal=mask is None)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class TakingOut(UsualBlock):
    def forward(self, h, **context):
        h = h + self.self_attn(self.input_layernorm(h), mask=context.get("mask"))[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class ByLength(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h), length=h.shape[1])[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class ByDtype(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h), dtype=h.dtype)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class OverBatch(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0].mean(0, keepdim=True)
        return h + self.mlp(self.post_attention_layernorm(h))


class KeepingNone(UsualBlock):
    """The same, with a place for it from the start."""

    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.aux = None

    def forward(self, h):
        out, self.aux = self.self_attn(self.input_layernorm(h))
        return h + out + self.mlp(self.post_attention_layernorm(h + out))


class Logging(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.seen = []

    def forward(self, h):
        self.seen.append(h)
        return super().forward(h)


class Needing(UsualBlock):
    """An argument without a default, which may be None."""

    def forward(self, h, mask):
        h = h + self.self_attn(self.input_layernorm(h), mask, causal=mask is None)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class ByKind(UsualBlock):
    def forward(self, h, kind="full"):
        mask = "causal" if kind == "causal" else None
        h = h + self.self_attn(self.input_layernorm(h), mask)[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class Helped(UsualBlock):
    def attend(self, h, mask=None, **_):
        return self.self_attn(self.input_layernorm(h), mask=mask)[0]

    def forward(self, h, **context):
        h = h + self.attend(h, **context)
        return h + self.mlp(self.post_attention_layernorm(h))


class Documented(UsualBlock):
    def forward(self, h, **context):
        """
Refused for another reason than where its docstring begins."""
        return super().forward(h, **context)


class Checkpointing(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0]
        x = self.post_attention_layernorm(h)
        return h + checkpoint(self.mlp, x, use_reentrant=False)


class Asserting(UsualBlock):
    def forward(self, h):
        assert h.shape[-1] == 16
        return super().forward(h)


class Keeping(UsualBlock):
    """A loss beside its output, as some mixtures of experts have."""

    def forward(self, h):
        out, self.aux = self.self_attn(self.input_layernorm(h))
        return h + out + self.mlp(self.post_attention_layernorm(h + out))


class Detached(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0].detach()
        return h + self.mlp(self.post_attention_layernorm(h))


class Frozen(UsualBlock):
    @torch.no_grad()
    def forward(self, h):
        return super().forward(h)


class Precise(UsualBlock):
    def forward(self, h):
        h = h + self.self_attn(self.input_layernorm(h))[0]
        with torch.autocast("cpu", enabled=False):
            return h + self.mlp(self.post_attention_layernorm(h))


class Skipping(UsualBlock):
    """Stochastic depth."""

    def forward(self, h):
        skip = self.training and torch.rand(()) < 0.1
        return h if skip else super().forward(h)


class Flat(nn.Module):
    """A tanh in the place of a norm (DyT): flat far out, but not scale-free."""

    def __init__(self, d):
        super().__init__()
        self.alpha, self.weight = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(d))

    def forward(self, x):
        return torch.tanh(self.alpha * x) * self.weight


class NoNormButFlat(UsualBlock):
    def __init__(self, d, eps=None):
        super().__init__(d, eps)
        self.input_layernorm = Flat(d)


class Packed(UsualBlock):
    def forward(self, h):
        x = self.input_layernorm(h)
        h = h + self.self_attn(x, pair=(x, x))[0]
        return h + self.mlp(self.post_attention_layernorm(h))


class Starred(UsualBlock):
    def forward(self, h, *context):
        return super().forward(h)


class Inspecting(UsualBlock):
    def forward(self, h):
        return super().forward(h) * self.mlp[0].weight.new_ones(())


REFUSED = {
    Parallel: "post_attention_layernorm reads something else than the sum so far",
    Gated: "has gamma beside its parts, which would be lost",
    Buffered: "has scale beside its parts",
    DroppedOut: "something other than a sum happens|draws random numbers",
    OnlyWhenTraining: "computes something else while it trains",
    Bent: "something other than a sum happens between its parts",
    Spare: r"has parts that its forward did not call: \['cross_attn'\]",
    NoNorm: "begins with self_attn, which feels the scale",
    Identity: "begins with post_attention_layernorm, which feels the scale",
    Pair: "it returns a tuple, not a tensor",
    Replacing: "it returns something else than the sum so far",
    Idle: "it adds nothing",
    Wide: "something other than a sum happens",
    Clamped: "something other than a sum happens",
    OwnMask: "something other than a sum happens",
    FlagOfNone: "does something else where `mask` is None",
    TakingOut: "looks into its arguments `context`",
    ByLength: "for another size",
    ByDtype: "goes by the dtype of what it reads",
    OverBatch: "something other than a sum happens",
    Keeping: r"it keeps \['aux'\] of what it computes",
    Detached: "something between its parts keeps gradients back",
    Frozen: "runs without gradients",
    Precise: "runs without gradients, or in a precision of its own",
    Skipping: "it draws random numbers between its parts",
    NoNormButFlat: "begins with input_layernorm, which feels the scale",
    Packed: "it packs its hidden state with something else",
    Starred: "takes arguments by position that it does not name",
    KeepingNone: r"it keeps \['aux'\] of what it computes",
    Logging: r"it keeps \['seen'\]",
    Needing: "does something else where `mask` is None",
    Helped: "looks into its arguments `context`",
    Documented: "looks into its arguments `context`",
    Checkpointing: "it checkpoints mlp itself",
    Asserting: "cannot be followed: AssertionError",
    Inspecting: "it takes something out of its part mlp",
}
