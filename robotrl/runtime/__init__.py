"""What runs on the robot: policy, modes, loop and flight recorder."""
