"""How it is learned: algorithms, networks, the training loop. Never imports a simulator."""
