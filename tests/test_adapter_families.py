"""The decoders of transformers, moved onto a stream: families x features.

Every model is tiny and random, built from its configuration, so nothing is downloaded. The
guide's page on notebook 12 shows the table; a test below holds it to what is tried here.
"""

import copy
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from attnres_ref import BlockAttnRes, FullAttnRes, PreNorm
from attnres_ref.adapter import convert
from attnres_ref.study.probes import kept_bytes

transformers = pytest.importorskip("transformers")
load_file = pytest.importorskip("safetensors.torch").load_file
transformers.logging.set_verbosity_error()

BLOCK = partial(BlockAttnRes, block_size=4)
TOKENS = torch.randint(1, 64, (2, 12), generator=torch.Generator().manual_seed(0))
SIZE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=None, eos_token_id=None,
)
HEADS = dict(head_dim=8)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
SHARED = dict(**EXPERTS, shared_expert_intermediate_size=16, decoder_sparse_step=1)
LINEAR = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8,
              linear_value_head_dim=8)
# The family as its classes are called, and what its configuration wants besides.
FAMILIES = {
    "Llama": {}, "Mistral": {}, "Qwen2": {}, "Qwen3": HEADS, "Phi3": dict(resid_pdrop=0.1),
    "Gemma": HEADS, "Gemma2": HEADS, "Gemma3": HEADS, "Glm4": HEADS,
    "Granite": dict(residual_multiplier=0.22), "Mixtral": dict(num_local_experts=4),
    "Qwen2Moe": SHARED, "Qwen3Moe": dict(**HEADS, **EXPERTS),
    "Qwen3Next": dict(**HEADS, **SHARED, **LINEAR), "GPT2": {},
}
REFUSED = {
    "Olmo2": "Olmo2DecoderLayer has a layer that begins with self_attn",
    "Cohere": "CohereDecoderLayer cannot be followed: mlp reads something else than",
    "Phi": "PhiDecoderLayer cannot be followed: mlp reads something else than",
    "GPTNeoX": "GPTNeoXLayer cannot be followed: post_attention_layernorm reads something",
}


def built(family, **changes):
    def named(*endings):
        there = (getattr(transformers, f"{family}{ending}", None) for ending in endings)
        return next(cls for cls in there if cls is not None)

    torch.manual_seed(0)
    size = SIZE | FAMILIES.get(family, {}) | changes
    config = named("TextConfig", "Config")(**size)
    return named("ForCausalLM", "LMHeadModel")(config).eval()


def on(model, residual, **options):
    """A copy of the model, on a stream."""
    copied = copy.deepcopy(model)
    convert(copied.base_model, residual, **options)
    return copied


def with_queries(model):
    """On Block AttnRes, with queries that have left zero."""
    converted = on(model, BLOCK)
    with torch.no_grad():
        converted.base_model.stream.queries.normal_(generator=torch.Generator().manual_seed(1))
    return converted


def logits(model, **options):
    return model(TOKENS, **(dict(use_cache=False) | options)).logits


def same(ours, theirs, atol=0.0):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


# ---- The features: each takes a model and fails where it is not so -----------------------


def prenorm_is_exact(model):
    """Maximum difference 0, evaluating and training, dropout and all."""
    for training in (False, True):
        results = []
        for either in (model, on(model, PreNorm)):
            torch.manual_seed(1)
            results.append(logits(either.train(training)))
        same(*results)


def attnres_starts_as_it(model):
    for residual in (BLOCK, FullAttnRes):
        same(logits(on(model, residual)), logits(model), atol=1e-6)
    assert (logits(with_queries(model)) - logits(model)).abs().max() > 1e-3


def generates_with_a_cache(model):
    converted, options = with_queries(model), dict(max_new_tokens=6, do_sample=False)
    fresh = converted.generate(TOKENS, use_cache=False, **options)
    assert torch.equal(converted.generate(TOKENS, **options), fresh)
    assert not torch.equal(fresh, model.generate(TOKENS, **options))


def beams_and_left_padding(model):
    converted, options = with_queries(model), dict(max_new_tokens=6, do_sample=False)
    beams = converted.generate(TOKENS, num_beams=3, **options)
    fresh = converted.generate(TOKENS, num_beams=3, use_cache=False, **options)
    assert torch.equal(beams, fresh)
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), TOKENS], 1)
    mask = (padded != 0).long()
    continued = converted.generate(padded, attention_mask=mask, **options)
    assert torch.equal(continued[:, 15:], converted.generate(TOKENS, **options)[:, 12:])


def output_hidden_states(model):
    """What each block reads, and the last state: at zero queries what it was."""
    before = model(TOKENS, output_hidden_states=True).hidden_states
    after = on(model, BLOCK)(TOKENS, output_hidden_states=True).hidden_states
    assert len(before) == len(after) == 5
    for ours, theirs in zip(after, before):
        same(ours, theirs, atol=1e-5)


def gradient_checkpointing(model):
    converted, gradients, kept = with_queries(model).train(), [], []
    for enable in (False, True):
        if enable:
            enable_checkpointing(converted)
        torch.manual_seed(1)
        logits(converted).square().sum().backward()
        gradients.append([p.grad for p in converted.parameters() if p.grad is not None])
        converted.zero_grad()
        kept.append(kept_bytes(lambda: logits(converted)))
    for ours, theirs in zip(*gradients, strict=True):
        same(ours, theirs, atol=1e-5)
    assert kept[1] < 0.3 * kept[0]
    with torch.no_grad():              # the library lets the embedding want gradients
        logits(converted.eval())


def enable_checkpointing(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)         # it has a new name
        model.gradient_checkpointing_enable(**options)


def save_and_load(model):
    """By the loop of notebook 12, from several files."""
    converted = with_queries(model)
    with TemporaryDirectory() as folder:
        converted.save_pretrained(folder, max_shard_size="20KB")
        assert len([*Path(folder).glob("*.safetensors")]) > 1
        loaded = type(model).from_pretrained(folder)
        convert(loaded.base_model, BLOCK)
        for file in Path(folder).glob("*.safetensors"):
            found = {n: w for n, w in load_file(file).items() if ".stream." in n}
            loaded.load_state_dict(found, strict=False)
    same(logits(loaded.eval()), logits(converted))


def bfloat16(model):
    model = copy.deepcopy(model).bfloat16()
    same(logits(on(model, PreNorm)), logits(model))
    converted = with_queries(model)
    out = logits(converted)
    assert converted.base_model.stream.queries.dtype == out.dtype == torch.bfloat16
    out.float().sum().backward()


def autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        same(logits(on(model, PreNorm)), logits(model))
        converted = with_queries(model)
        logits(converted).float().sum().backward()
    assert converted.base_model.stream.queries.grad.isfinite().all()


def compiles_in_one_piece(model):
    converted = with_queries(model)
    torch._dynamo.reset()
    compiled = torch.compile(converted, fullgraph=True, backend="aot_eager")
    same(logits(compiled), logits(converted), atol=1e-5)


FEATURES = [
    prenorm_is_exact, attnres_starts_as_it, generates_with_a_cache, beams_and_left_padding,
    output_hidden_states, gradient_checkpointing, save_and_load, bfloat16, autocast,
    compiles_in_one_piece,
]


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_feature_works_in_the_family(family, feature):
    # Compiling takes seconds a block.
    few = dict(num_hidden_layers=2) if feature is compiles_in_one_piece else {}
    feature(built(family, **few))


@pytest.mark.parametrize("family", REFUSED)
def test_the_family_is_refused_with_a_reason(family):
    model = built(family)
    before = logits(model)
    with pytest.raises(ValueError, match=REFUSED[family]):
        convert(model.base_model, FullAttnRes)
    same(logits(model), before)


def test_reentrant_checkpointing_is_refused():
    model = on(built("Llama"), BLOCK).train()
    enable_checkpointing(model, gradient_checkpointing_kwargs=dict(use_reentrant=True))
    with pytest.raises(ValueError, match="gradients of its sources.*use_reentrant"):
        logits(model)


def test_router_logits_are_still_recorded():
    converted = on(built("Mixtral"), BLOCK)
    out = converted(TOKENS, output_router_logits=True)
    assert len(out.router_logits) == 4 and out.aux_loss > 0


def test_the_guide_shows_this_table():
    heads = [feature.__name__.replace("_", " ") for feature in FEATURES]
    rows = [["family", *heads], ["---"] * (1 + len(heads))]
    rows += [[family, *["yes"] * len(heads)] for family in FAMILIES]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---")
    guide = Path(__file__).parents[1] / "notebooks" / "guide" / "12.md"
    assert table.replace("--- |", "---|") in guide.read_text(encoding="utf-8"), table
