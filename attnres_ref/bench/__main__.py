"""What it costs on this machine.

    python -m attnres_ref.bench                    (make bench: a training step)
    python -m attnres_ref.bench compiled           (the same under torch.compile)
    python -m attnres_ref.bench inference          (make bench-inference)
    python -m attnres_ref.bench hybrid             (make bench-hybrid)
    python -m attnres_ref.bench pipeline           (make bench-pipeline)

Nothing else should run beside it.
"""

import argparse
import json

from attnres_ref.bench import compiled, hybrid, inference, pipeline, training
from attnres_ref.bench.options import count, output_file
from attnres_ref.bench.timing import default_device
from attnres_ref.training.provenance import provenance, require_clean

BENCHMARKS = dict(
    training=training, compiled=compiled, inference=inference, hybrid=hybrid,
    pipeline=pipeline,
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attnres_ref.bench", description=__doc__.splitlines()[0]
    )
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, default="training")
    parser.add_argument("--rounds", type=count, default=30)
    parser.add_argument("--json", type=output_file, help="also write the figures here")
    options = parser.parse_args(arguments)
    if options.json:
        require_clean()
    benchmark = BENCHMARKS[options.benchmark]
    rows = benchmark.measure(options.rounds)
    print(benchmark.table(rows))
    if options.json:
        facts = dict(rounds=options.rounds, size=benchmark.SIZE)
        device = getattr(benchmark, "DEVICE", default_device())
        record = dict(rows=rows, **facts, **provenance(device))
        text = json.dumps(record, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
