"""How a call is timed: on one stream, replayed as a CUDA graph, by the device's clock."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


def own_device() -> torch.device:
    """The GPU, with a stream of this process as the current one; without a GPU the CPU.

    Autograd runs a backward on the stream of its forward, and a CUDA graph can capture
    any stream but the default one, so everything happens on this one, inputs included.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
        return torch.device("cpu")
    torch.cuda.set_stream(torch.cuda.Stream())
    return torch.device("cuda")


def compiled(function, device: torch.device):
    """`function` or module under torch.compile, for static shapes.

    By itself torch.compile gives up after 8 shapes and runs the ninth eagerly, under
    the name of the compiled one. Nothing is measured on a CPU, so there nothing waits
    for C++: the graph is only traced.
    """
    torch._dynamo.config.recompile_limit = 1000
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    return torch.compile(function, dynamic=False, backend=backend)


def told(error: Exception) -> str:
    """The error on one line, to go on without what failed. Raises it again if the device
    is lost with it: after an illegal access nothing more can run in this process."""
    if torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except Exception:
            raise error from None
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]


def as_graph(
    calls: Sequence[Callable], device: torch.device
) -> tuple[Callable[[], list], str | None]:
    """A function that runs all `calls` once and returns their outputs, and None.

    On a GPU it replays them as one CUDA graph, which costs no Python. Where they cannot
    be captured it calls one after another, and the reason stands in the place of None.
    """
    plain = lambda: [call() for call in calls]
    for _ in range(3):                     # compiles, tunes, fills the allocator
        calls[0]()
    plain()
    if device.type == "cpu":
        return plain, "no GPU"
    stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            outputs = plain()
    except Exception as error:
        torch.cuda.set_stream(stream)      # a capture that fails leaves another behind
        return plain, told(error)
    # What the graph reads and writes must live as long as its replays.
    return (lambda: (graph.replay(), calls, outputs)[-1]), None


def times_ms(
    run: Callable, n_calls: int, device: torch.device, rounds: int = 10,
    round_ms: float = 4.0,
) -> list[float]:
    """Milliseconds per call, one number a round. `run` makes n_calls of them, and a round
    repeats it for about round_ms. On a CPU it runs once."""
    if device.type == "cpu":
        return [elapsed_ms(run, 1, device) / n_calls]
    elapsed_ms(run, 2, device)             # warm
    repeats = max(1, min(100, round(round_ms / elapsed_ms(run, 1, device))))
    each = repeats * n_calls
    return [elapsed_ms(run, repeats, device) / each for _ in range(rounds)]


def elapsed_ms(run: Callable, repeats: int, device: torch.device) -> float:
    if device.type == "cpu":
        began = time.perf_counter()
        for _ in range(repeats):
            run()
        return 1e3 * (time.perf_counter() - began)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def quartiles(values: Sequence[float]) -> list[float]:
    """[first quartile, median, third quartile]"""
    return statistics.quantiles(values, n=4) if len(values) > 1 else list(values) * 3


def host_ms(call: Callable, device: torch.device, rounds: int = 3) -> float | None:
    """Milliseconds until `call` returns, the GPU being idle when it begins: what Python and
    the launches take. None without a GPU, where calls return when all is done."""
    if device.type == "cpu":
        return None
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began))
    torch.cuda.synchronize()
    return statistics.median(taken)


def gpu_ms(call: Callable, device: torch.device, calls: int = 2) -> float | None:
    """Milliseconds that the GPU is busy with `call`: its kernels' times, added up. None
    without a GPU."""
    if device.type == "cpu":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    busy_us = sum(event.self_device_time_total for event in profiler.key_averages()
                  if event.device_type == DeviceType.CUDA and not event.is_user_annotation)
    return busy_us / 1e3 / calls


def peak_bytes(call: Callable, device: torch.device) -> int | None:
    """The most memory that `call` needs beyond what is allocated; None without a GPU."""
    if device.type == "cpu":
        call()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def free_memory(device: torch.device) -> None:
    """Give unused memory back, so that the next contender finds all of it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def copy_bandwidth(device: torch.device) -> float:
    """GB/s of one large copy, read and write counted."""
    n = 2**29 if device.type == "cuda" else 2**12
    a = torch.empty(n, dtype=torch.bfloat16, device=device)
    b = torch.empty_like(a)
    ms = statistics.median(times_ms(lambda: b.copy_(a), 1, device))
    return 2 * n * a.element_size() / (ms * 1e6)
