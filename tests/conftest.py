"""What holds here and in every process that a test starts: one thread, and nothing reported to anyone.

Test tensors are too small to share, and on a busy machine threads that wait for each other spin. A test
may import onnxruntime before robotrl, which otherwise sees to its silence.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
