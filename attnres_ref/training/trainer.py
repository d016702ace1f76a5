"""Training: data to loss, the same run whether or not it was interrupted."""

import math
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from attnres_ref.depth import depth_attention
from attnres_ref.model import LM, LMConfig
from attnres_ref.training.distributed import Processes
from attnres_ref.training.interrupt import finish_step_when_stopped
from attnres_ref.training.progress import progress_bar
from attnres_ref.training.provenance import as_json, provenance
from attnres_ref.training.recipe import (
    TrainConfig,
    after_step,
    half_precision,
    learning_rate,
    make_optimizer,
)
from attnres_ref.training.run_directory import RunDirectory, resume_from


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
    residual start from the same weights and see the same batches. `schedule(model)` is a
    view that runs in the model's place, the same reads in another order, as `chained`.
    """

    def __init__(
        self, model_config: LMConfig, config: TrainConfig, corpus,
        attend=depth_attention, compile=False, device: str | None = None, schedule=None,
    ):
        best = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or best)
        self.config, self.corpus, self.context = config, corpus, model_config.context
        torch.manual_seed(config.seed)
        self.model = LM(model_config, attend).to(self.device)
        self.processes = Processes()   # this one alone, or the group it belongs to
        forward = self.model if schedule is None else schedule(self.model)
        forward = torch.compile(forward) if compile else forward
        self.forward = self.processes.data_parallel(forward)
        self.optimizer = make_optimizer(self.model, config)
        half = self.autocast_dtype = half_precision(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half == torch.float16)
        data = as_json("corpus.fingerprint", corpus.fingerprint)
        self.identity = dict(model=asdict(model_config), train=asdict(config), data=data)
        self.made = provenance(
            self.device, compile=compile, processes=self.processes.size,
            attend=getattr(attend, "__qualname__", str(type(attend))),
            schedule=getattr(schedule, "__qualname__", schedule and str(type(schedule))),
            dtype=str(self.model.embedding.weight.dtype),
        )
        self.metrics, self.done = [], 0                # a line per step; finished steps

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
        if not math.isfinite(loss):
            raise Diverged(f"validation loss {loss:g} at step {self.done}: lower lr")
        return dict(val_loss=loss, val_bits_per_byte=loss / math.log(2))

    def state_dict(self) -> dict:
        parts = dict(model=self.model, optimizer=self.optimizer, scaler=self.scaler)
        states = {name: part.state_dict() for name, part in parts.items()}
        return dict(step=self.done, metrics=self.metrics, **states)

    def load_state_dict(self, state: dict) -> None:
        self.done, self.metrics = state["step"], state["metrics"]
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

    With `checkpoint_dir` the run can be killed at any moment; `resume` goes on with what
    the folder holds. On a CPU this equals the uninterrupted run bit for bit, unless
    threads, versions or options differ: a warning names them. Ctrl-C or SIGTERM finishes
    the step, saves, and raises KeyboardInterrupt. observe(model) returns a dict of JSON
    values (nan turns None) that join the metrics of every validation. trainer_options:
    attend, compile, device, schedule of `Trainer`. Raises Diverged; CheckpointError or
    OSError for a folder that cannot be used; ValueError for a corpus too short, no JSON.
    """
    trainer = Trainer(model_config, config, corpus, **trainer_options)
    if checkpoint_dir is None:
        return run_steps(trainer, None, observe)
    identity = dict(**trainer.identity, made=trainer.made)
    folder = trainer.processes.run_directory(checkpoint_dir, identity, resume)
    with folder.locked():
        resume_from(folder, trainer)
        return run_steps(trainer, folder, observe)


def run_steps(trainer: Trainer, folder: RunDirectory | None, observe=None) -> Run:
    """From where `trainer` stands to the end of its schedule; `folder` stays up to date."""
    config, first, began = trainer.config, trainer.done, time.perf_counter()
    parameters = sum(p.numel() for p in trainer.model.parameters())
    facts = dict(**trainer.identity, **trainer.made, parameters=parameters)
    bar = progress_bar(
        total=config.steps, initial=first,
        desc=f"{trainer.model.config.residual}, seed {config.seed}",
        disable=trainer.processes.rank > 0,
    )
    with bar, finish_step_when_stopped() as stop:
        while trainer.done < config.steps:
            try:
                line = trainer.step()
                last = trainer.done == config.steps
                if last or trainer.done % config.eval_every == 0:
                    line |= trainer.validate()
                    seen = as_json("observed", observe(trainer.model)) if observe else {}
                    result = dict(**facts, **line, **seen)     # TypeError: a name is taken
                    line |= seen
            except Diverged as error:
                where = folder.last_good() if folder else "no checkpoint_dir was given"
                raise Diverged(f"{error}; {where}") from None
            trainer.metrics.append(line)
            stopping = trainer.processes.any_of(stop.requested)
            if folder:
                folder.append(line)
                due = trainer.done % config.checkpoint_every == 0
                # The first step's says to whom the folder belongs.
                if due or last or stopping or trainer.done == 1:
                    folder.save(trainer.state_dict())
            tokens = (trainer.done - first) * config.batch_size * trainer.context
            speed = tokens / (time.perf_counter() - began)
            bar.set_postfix_str(f"loss {line['loss']:.3f}, {speed:,.0f} tokens/s", False)
            bar.update()
            if stopping:
                raise KeyboardInterrupt

    if first == config.steps:          # finished before, maybe by other code: its facts
        result = folder.read_result() or dict(**facts, **trainer.metrics[-1])
    if folder:
        folder.write_result(result)
    return Run(trainer.model, trainer.metrics, result)
