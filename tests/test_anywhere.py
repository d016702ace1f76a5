"""One rule for every residual and every layer: parameters may have any floating dtype and
lie on any device, what comes in decides what goes out, and what is delicate is computed in
float32 or wider."""

import copy

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, vmap

from attnres_ref import LM, LMConfig
from attnres_ref.model import RoPE
from attnres_ref.streams import STREAMS

DENSE, HYBRID = "attention,mlp", "kda,moe,mla,moe"
MODELS = [(residual, layers) for residual in STREAMS for layers in (DENSE, HYBRID)]
TOKENS = torch.randint(256, (2, 6), generator=torch.Generator().manual_seed(0))
# All experts serve every token: a rounding could choose another one.
SIZE = dict(d_model=16, n_layers=4, n_heads=2, context=8, n_experts=2)


def build(residual, layers=DENSE, **changes):
    """A model whose stream is away from its initialisation."""
    torch.manual_seed(0)
    model = LM(LMConfig(residual=residual, layers=layers, **SIZE | changes))
    for parameter in model.stream.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def build_in(dtype, residual, layers):
    """The same under another default dtype, as one builds a model too large for float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build(residual, layers)
    finally:
        torch.set_default_dtype(before)


def build_then_cast(dtype, residual, layers):
    return build(residual, layers).to(dtype)


@pytest.mark.parametrize("residual, layers", MODELS)
@pytest.mark.parametrize("make, dtype", [
    (build_then_cast, torch.bfloat16), (build_in, torch.bfloat16),
    (build_then_cast, torch.float16),
])
def test_half_precision_gives_what_float64_gives(residual, layers, make, dtype):
    model = make(dtype, residual, layers)
    logits = model(TOKENS)
    assert logits.dtype == dtype
    logits.double().logsumexp(-1).mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    exact = copy.deepcopy(model).double()(TOKENS)
    assert (logits - exact).norm() <= 12 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("residual, layers", MODELS)
def test_shapes_are_known_without_values(residual, layers):
    with torch.device("meta"):
        assert build(residual, layers)(TOKENS.to("meta")).shape == (2, 6, 256)
    with FakeTensorMode() as mode:
        logits = build(residual, layers)(mode.from_tensor(TOKENS))
        logits.sum().backward()
    assert logits.shape == (2, 6, 256)


@pytest.mark.parametrize("residual, layers", MODELS)
def test_made_on_meta_and_loaded_is_the_same_model(residual, layers):
    model = build(residual, layers, tied_head=True)
    with torch.device("meta"):
        other = build(residual, layers, tied_head=True)
    other.to_empty(device="cpu")
    for tensor in [*other.parameters(), *other.buffers()]:
        tensor.data.fill_(torch.nan)                   # what memory held, made visible
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(TOKENS), model(TOKENS))
    assert other.head.weight is other.embedding.weight


@pytest.mark.parametrize("residual, layers, mode", [
    ("full", DENSE, torch.enable_grad),
    ("full", DENSE, torch.inference_mode),
    ("block", "attention,moe", torch.enable_grad),
    ("block", "attention,moe", torch.no_grad),
])
def test_compiles_into_one_graph(residual, layers, mode):
    model = build(residual, layers, n_experts=4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with mode():
        theirs, load = model(TOKENS), getattr(model.layers[1], "load", None)
        ours = compiled(TOKENS)
    torch.testing.assert_close(ours, theirs)
    assert load is None or load == pytest.approx(model.layers[1].load.tolist())
    if theirs.requires_grad:
        gradients = lambda logits: torch.autograd.grad(
            logits.logsumexp(-1).sum(), [*model.parameters()], materialize_grads=True
        )
        torch.testing.assert_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("layers", [DENSE, "attention,moe"])
def test_gradients_of_each_sample(layers):
    model = build("block", layers)
    parameters = dict(model.named_parameters())

    def loss(parameters, tokens):
        return functional_call(model, parameters, tokens[None]).square().mean()

    each = vmap(grad(loss), (None, 0))(parameters, TOKENS)
    for row, tokens in enumerate(TOKENS):
        model.zero_grad()
        loss(parameters, tokens).backward()
        for name, gradients in each.items():
            own = parameters[name].grad
            own = torch.zeros_like(gradients[row]) if own is None else own
            torch.testing.assert_close(gradients[row], own, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("residual, layers", [("static", DENSE), ("full", HYBRID)])
def test_torch_func_leaves_nothing_behind(residual, layers):
    """Also where one layer alone is mapped over; and the model can be copied after it."""
    model = build(residual, layers)
    name = "layers.1.norm.weight"
    several = torch.stack([model.layers[1].norm.weight, 2 * model.layers[1].norm.weight])
    logits = vmap(lambda w: functional_call(model, {name: w}, TOKENS))(several)
    torch.testing.assert_close(logits[0], model(TOKENS), atol=1e-5, rtol=1e-4)
    grad(lambda w: functional_call(model, {name: w}, TOKENS).mean())(several[0])
    copy.deepcopy(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rope_turns_by_the_exact_angle_far_out(dtype):
    """bfloat16 cannot tell position 300 from 301."""
    rope = RoPE(LMConfig(d_model=64, n_heads=1, context=1024))
    x = torch.ones(1024, 64)
    gap = rope(x.to(dtype)).float() - rope(x.double())
    assert gap.abs().max() <= 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("residual", [r for r in STREAMS if r not in ("prenorm", "mhc")])
def test_a_state_that_checkpointing_took_apart_is_named(residual):
    """Reentrant checkpointing hands a Depth back as a tuple, and its gradients are lost."""
    stream = build(residual).stream
    state = stream.begin(torch.randn(2, 6, 16))
    if isinstance(state, tuple):
        with pytest.raises(ValueError, match="state is a tuple.*use_reentrant=False"):
            stream.read(tuple(state), 0)
    else:
        assert torch.is_tensor(state)                  # one tensor passes unharmed
