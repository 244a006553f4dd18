"""Around the training step of train.py: where rows come from, the processes, checkpoints, and the plan before work."""
