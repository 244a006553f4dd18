"""Around the training step of train.py: settings, base, rows, loss, processes, checkpoints, the plan before work."""
