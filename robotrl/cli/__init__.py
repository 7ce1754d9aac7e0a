"""The command line: one module for each command of `robotrl`."""

import os

# Numpy reads this once, when it is first imported. Our matrices are small and our parallelism is
# in processes and worlds: threads that share one product would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
