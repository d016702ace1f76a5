"""What a rank sends and holds, counted where the engine does it."""

from collections import Counter
from dataclasses import dataclass, field

from torch.distributed.pipelining import PipelineStage


@dataclass
class Traffic:
    """What one rank has sent, and holds."""

    tensors: Counter = field(default_factory=Counter)    # by kind ("F", "B"), transition
    n_bytes: Counter = field(default_factory=Counter)    # by transition
    held: int = 0                                        # received, waiting for backward
    peak: int = 0                                        # the most of them

    def send(self, kind: str, transition: int, ops: list) -> list:
        self.tensors[kind, transition] += len(ops)
        self.n_bytes[transition] += sum(op.tensor.nbytes for op in ops)
        return ops

    def hold(self, n_tensors: int) -> None:
        self.held += n_tensors
        self.peak = max(self.peak, self.held)


class CountingStage(PipelineStage):
    """A PipelineStage that writes down what it sends and holds, and changes nothing."""

    traffic: Traffic

    def get_fwd_send_ops(self, fwd_chunk_id):
        ops = super().get_fwd_send_ops(fwd_chunk_id)
        return self.traffic.send("F", self.stage_index, ops)

    def get_bwd_send_ops(self, bwd_chunk_id):
        ops = super().get_bwd_send_ops(bwd_chunk_id)
        return self.traffic.send("B", self.stage_index - 1, ops)

    def forward_one_chunk(self, fwd_chunk_id, *args, **kwargs):
        self.traffic.hold(self.n_received)
        return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(self, bwd_chunk_id, *args, **kwargs):
        super().backward_one_chunk(bwd_chunk_id, *args, **kwargs)
        self.traffic.hold(-self.n_received)

    @property
    def n_received(self) -> int:
        return self.submod.layout.received(self.stage_index)
