"""robotrl: train a robot policy in batched MuJoCo, export one ONNX file, run it on the robot."""

import os

# From 1.29 on, onnxruntime's wheels start threads when they are imported that keep a device identifier and
# a database under the home folder's .cache and report to Microsoft over HTTPS. This is the documented way to
# have none of it (docs/Privacy.md of onnxruntime); its Python function only drops some of the events. It is
# read once, at that import, so it has to stand here: only a program that imports onnxruntime before robotrl
# must set it itself.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
