"""The simulated robot: servo and IMU firmware that speaks the real bytes, with physics behind."""
