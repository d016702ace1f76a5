"""The models of the depth lens: what a file says is what PyTorch and the browser run."""

import pytest
import torch

import lens
from attnres_ref.model import LM, LMConfig
from tiny_data import python_sources

FILES = [("prenorm", 0)] + [
    (residual, step) for residual in lens.RESIDUALS for step in lens.STEPS if step
]


def trained_a_little(residual: str) -> LM:
    """An LM none of whose vectors is where it started."""
    torch.manual_seed(0)
    model = LM(LMConfig(residual=residual, **lens.MODEL))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


TOKENS = torch.tensor([list(b"def read(self, layer):\n    return self.")])


@pytest.mark.parametrize("residual", lens.RESIDUALS)
def test_folded_norms_leave_the_function_alone(residual):
    model = trained_a_little(residual)
    before = model(TOKENS)
    norms = [w for name, w in lens.folded(model).named_parameters() if "norm" in name]
    assert all((w == 1).all() or (w == 0).all() for w in norms)
    torch.testing.assert_close(model(TOKENS), before, atol=1e-4, rtol=1e-4)


def test_a_matrix_is_written_to_half_a_level():
    matrix = torch.randn(5, 40) * torch.tensor([1e-3, 1, 10, 0, 2.0])[:, None]
    written = lens.written(matrix)
    assert len(written["digits"]) == 200 and '"' not in written["digits"]
    error = (lens.read(written) - matrix).abs().amax(1)
    half = matrix.abs().amax(1) / lens.LEVELS / 2
    assert (error <= half * 1.02).all()                # the scale has four digits
    assert set(lens.DIGITS).isdisjoint('"\\\n') and len(lens.DIGITS) == 2 * lens.LEVELS + 1


@pytest.mark.parametrize("residual", lens.RESIDUALS)
def test_a_file_gives_back_all_of_a_folded_model(residual):
    model = lens.folded(trained_a_little(residual))
    record = dict(matrices={n: lens.written(m) for n, m in lens.matrices(model).items()})
    again = lens.filled(LM(LMConfig(residual=residual, **lens.MODEL)), record)
    for name, weight in model.named_parameters():
        other = dict(again.named_parameters())[name]
        atol = weight.abs().max().item() / 80
        torch.testing.assert_close(other, weight, atol=atol, rtol=0)


@pytest.mark.parametrize(("residual", "step"), FILES)
def test_a_recorded_file_has_the_loss_that_it_states(residual, step):
    record, model = lens.record(residual, step), lens.load(residual, step)
    assert record["residual"] == (residual if step else "all") and record["step"] == step
    assert ("queries" in record["matrices"]) == (residual != "prenorm" and step > 0)
    inputs, targets = python_sources().validation_windows(lens.RECIPE.eval_windows, 128)
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
            for x, y in zip(inputs.split(16), targets.split(16))
        ]
    assert sum(losses) / len(losses) == pytest.approx(record["val_loss"], abs=2e-3)
    assert record["val_loss"] == pytest.approx(record["unrounded"]["val_loss"], abs=0.02)


def test_the_start_is_that_of_all_three():
    logits = [lens.load(residual, 0)(TOKENS) for residual in lens.RESIDUALS]
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=1e-4, rtol=1e-4)
