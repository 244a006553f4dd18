"""Around the training step of train.py: settings, the base, rows, the processes, checkpoints, and the plan before work."""
