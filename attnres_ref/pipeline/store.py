"""What a rank keeps between its chunks, and how gradients find back (sec. 4.1)."""

from torch import Tensor


class RankStore:
    """Completed blocks of the micro-batches under way, one copy of each on the rank.

    Chunk c gets a block over the wire; chunks c + P, c + 2P, ... of the same rank read it
    from here. They must not reach into the graph of chunk c, which has a backward pass of
    its own. So they read a leaf, their gradients pile up in `leaf.grad`, and the backward
    of chunk c, which comes after theirs, adds the pile to what it sends upstream.
    """

    def __init__(self):
        self.leaves: dict[int, list[Tensor]] = {}      # micro-batch -> b_0, b_1, ...
        self.owed = 0          # kept blocks whose gradient has not been handed over

    def blocks(self, microbatch: int) -> list[Tensor]:
        """What the rank holds: leaves [B, T, d] for its later chunks to read."""
        return self.leaves.get(microbatch, [])

    def keep(self, microbatch: int, value: Tensor) -> Tensor:
        """Keep the next block; the caller goes on with the returned tensor in its place.

        Raises RuntimeError in the backward pass if no later chunk left a gradient.
        """
        held = self.leaves.setdefault(microbatch, [])
        block = len(held)
        leaf = value.detach().requires_grad_()
        held.append(leaf)
        self.owed += 1

        def hand_over(gradient: Tensor) -> Tensor:
            if leaf.grad is None:
                raise RuntimeError(
                    f"no gradient came back for block {block} of micro-batch {microbatch}: "
                    "does the schedule run the later chunks' backward first, and whole?"
                )
            self.owed -= 1
            return gradient + leaf.grad

        # The engine hands the same receive buffer to every step, and a hook on it would
        # stay: hang it on a view that lives for one step.
        value = value.view_as(value)
        value.register_hook(hand_over)
        return value

    def drop(self, microbatch: int) -> None:
        """The rank's last chunk has taken what it needs; its graph keeps the leaves."""
        self.leaves.pop(microbatch, None)

    def check_empty(self) -> None:
        """After a step nothing may be left. Raises RuntimeError."""
        if self.leaves or self.owed:
            raise RuntimeError(
                "after the step the store holds blocks of "
                f"{len(self.leaves)} micro-batches and owes {self.owed} gradients"
            )
