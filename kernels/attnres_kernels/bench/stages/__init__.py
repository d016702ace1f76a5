"""One module for each stage of the benchmark; its `measure(record, device)` is the stage.

A stage that several processes share has `SHARES`, how many they are, and `share(k, of,
out, device)`, what the k-th of them does. Sizes are given by device: those of "cpu" are
tiny, and serve the dry run.
"""
