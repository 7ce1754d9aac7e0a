"""How the body is reached: serial ports, servo and IMU protocols, and the body they form."""
