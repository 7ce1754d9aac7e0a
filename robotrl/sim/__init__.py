"""Where a robot is simulated: models, batched worlds, sensing, randomisation, environments."""
