"""robotrl: train a robot policy in batched MuJoCo, export one ONNX file, run it on the robot."""
