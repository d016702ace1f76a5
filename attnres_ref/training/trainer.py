"""Training: data to loss, the same run whether or not it was interrupted."""

import math
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from attnres_ref.depth import depth_attention
from attnres_ref.model import LM, LMConfig
from attnres_ref.training.distributed import Processes
from attnres_ref.training.interrupt import finish_step_on_ctrl_c
from attnres_ref.training.progress import progress_bar
from attnres_ref.training.provenance import provenance
from attnres_ref.training.recipe import (
    TrainConfig,
    after_step,
    half_precision,
    learning_rate,
    make_optimizer,
)
from attnres_ref.training.run_directory import RunDirectory


class Diverged(RuntimeError):
    """The loss or the gradient is no longer finite."""


@dataclass
class Run:
    """What training leaves behind."""

    model: LM
    metrics: list[dict]            # a line per step: step, loss, lr, grad_norm [, val_loss]
    result: dict                   # JSON: configurations, final losses, provenance

    @property
    def val_loss(self) -> float:
        """Final validation loss, nats per byte."""
        return self.metrics[-1]["val_loss"]


class Trainer:
    """One model, its optimiser and its place in the data.

    `config.seed` fixes initialisation and batches: models that differ only in their
    residual start from the same weights and see the same batches.
    """

    def __init__(
        self, model_config: LMConfig, config: TrainConfig, corpus,
        attend=depth_attention, compile: bool = False, device: str | None = None,
    ):
        best = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or best)
        self.config, self.corpus, self.context = config, corpus, model_config.context
        torch.manual_seed(config.seed)
        self.model = LM(model_config, attend).to(self.device)
        self.processes = Processes()   # this one alone, or the group it belongs to
        forward = torch.compile(self.model) if compile else self.model
        self.forward = self.processes.data_parallel(forward)
        self.optimizer = make_optimizer(self.model, config)
        self.autocast_dtype = half_precision(self.device)
        needs_scaler = self.autocast_dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaler)
        self.done = 0              # finished steps

    def step(self) -> dict:
        """One optimiser step; its metrics. Raises Diverged and leaves the weights as
        they were when loss or gradient is not finite."""
        config, lr = self.config, learning_rate(self.done, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        batch = self.corpus.batch(config.seed, self.done, config.batch_size, self.context)
        loss = self.loss(*self.processes.own_rows(batch))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        loss = self.processes.mean(loss).item()
        line = dict(step=self.done + 1, loss=loss, lr=lr, grad_norm=norm.item())
        # In fp16 a gradient may overflow. Then scaler.step() below leaves the weights alone
        # and scaler.update() halves the scale; under a scale of 1 that no longer helps.
        overflow = not math.isfinite(line["grad_norm"])
        will_skip = overflow and self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        if not math.isfinite(line["loss"]) or overflow and not will_skip:
            raise Diverged(
                f"loss {line['loss']:g} and gradient norm {line['grad_norm']:g} at step "
                f"{line['step']}: lower lr, now {config.lr:g}, lengthen warmup_steps, or "
                "check what `attend` computes"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if will_skip:
            line["grad_norm"] = None                   # JSON has no infinity
        else:
            after_step(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return line

    def loss(self, inputs, targets):
        """Mean cross-entropy, nats per byte, of int64 [B, T] inputs and targets."""
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        half = self.autocast_dtype
        with torch.autocast(self.device.type, half, enabled=half is not None):
            logits = self.forward(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def validate(self) -> dict:
        """Mean loss over the corpus' fixed windows, in nats and in bits per byte."""
        size, n_windows = self.config.batch_size, self.config.eval_windows
        inputs, targets = self.corpus.validation_windows(n_windows, self.context)
        batches = zip(inputs.split(size), targets.split(size))        # [size, T] each
        total = sum(self.loss(x, y).item() * len(x) for x, y in batches)
        loss = total / len(inputs)
        return dict(val_loss=loss, val_bits_per_byte=loss / math.log(2))

    def state_dict(self) -> dict:
        parts = dict(model=self.model, optimizer=self.optimizer, scaler=self.scaler)
        states = {name: part.state_dict() for name, part in parts.items()}
        return dict(step=self.done, **states)

    def load_state_dict(self, state: dict) -> None:
        self.done = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:                # empty where the run began without fp16
            self.scaler.load_state_dict(state["scaler"])


def train(
    model_config: LMConfig, config: TrainConfig, corpus, checkpoint_dir=None,
    resume: bool = False, observe=None, **trainer_options,
) -> Run:
    """Train one model on `corpus`: a tiny_data.Corpus, or anything that has

        batch(seed, step, batch_size, context)   inputs and targets, int64 [B, T] each,
                                                 the same ones for the same arguments
        validation_windows(n, context)           the same for n fixed windows, [n, T]
        fingerprint                              JSON that names the data

    With `checkpoint_dir` the run can be killed at any moment and resumed; on a CPU
    the resumed run equals the uninterrupted one bit for bit. Ctrl-C finishes the
    step, saves, and raises KeyboardInterrupt. observe(model) returns JSON values that
    join the metrics of every validation. trainer_options: attend, compile and device
    of `Trainer`. Raises Diverged, CheckpointError or OSError for a folder
    that cannot be used, ValueError for a corpus shorter than the context.
    """
    trainer = Trainer(model_config, config, corpus, **trainer_options)
    identity = dict(
        model=asdict(model_config), train=asdict(config), data=corpus.fingerprint
    )
    if not checkpoint_dir:
        return run_steps(trainer, identity, None, observe)
    folder = trainer.processes.run_directory(checkpoint_dir, identity, resume)
    with folder.locked():
        if state := folder.restore():
            trainer.load_state_dict(state)
        return run_steps(trainer, identity, folder, observe)


def run_steps(
    trainer: Trainer, identity: dict, folder: RunDirectory | None, observe=None
) -> Run:
    """From where `trainer` stands to the end of its schedule; `folder` stays up to date."""
    config, context = trainer.config, trainer.context
    metrics = folder.read_metrics() if folder else []
    first, began = trainer.done, time.perf_counter()
    tokens_per_step = config.batch_size * context
    bar = progress_bar(
        total=config.steps, initial=first,
        desc=f"{trainer.model.config.residual}, seed {config.seed}",
        disable=trainer.processes.rank > 0,
    )
    with bar, finish_step_on_ctrl_c() as stop:
        while trainer.done < config.steps:
            try:
                line = trainer.step()
            except Diverged as error:
                where = folder.last_good() if folder else "no checkpoint_dir was given"
                raise Diverged(f"{error}; {where}") from None
            last = trainer.done == config.steps
            if last or trainer.done % config.eval_every == 0:
                line |= trainer.validate()
                line |= observe(trainer.model) if observe else {}
            metrics.append(line)
            stopping = trainer.processes.any_of(stop.requested)
            if folder:
                folder.append(line)
                if last or stopping or trainer.done % config.checkpoint_every == 0:
                    folder.save(trainer.state_dict())
            speed = (trainer.done - first) * tokens_per_step / (time.perf_counter() - began)
            status = f"loss {line['loss']:.3f}, {speed:,.0f} tokens/s"
            bar.set_postfix_str(status, refresh=False)
            bar.update()
            if stopping:
                raise KeyboardInterrupt

    finished_before = folder and folder.read_result()      # keep that run's provenance
    result = finished_before or dict(
        **identity, **metrics[-1], **provenance(trainer.device),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
    )
    if folder:
        folder.write_result(result)
    return Run(trainer.model, metrics, result)
