"""One thread for numerical libraries, here and in every process that a test starts.

Test tensors are too small to share, and on a busy machine threads that wait for each other spin.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
