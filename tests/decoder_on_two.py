"""Under torchrun: a decoder on a stream has the gradients of one process (see
test_adapter_memory). Rank 0 prints each way that does."""

import torch
import torch.distributed as dist

import ranks


def main() -> None:
    torch.set_num_threads(1)
    expected = ranks.gradients_of(ranks.decoder_on_a_stream(), *ranks.decoder_batch())
    dist.init_process_group("gloo")
    for way in ("ddp", "fsdp", "fsdp_checkpointed"):
        found = ranks.decoder_gradients(way)
        for name, gradient in expected.items():
            ours = torch.tensor(found[name], dtype=torch.float64)
            torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-12)
        if dist.get_rank() == 0:
            print(f"{way}: {len(found)} gradients on {dist.get_world_size()} processes")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
