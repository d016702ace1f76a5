"""python -m attnres_kernels.bench"""

from attnres_kernels.bench.operators import main

main()
