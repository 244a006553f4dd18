"""The whole method as one resumable run: settings, the steps in order, the ablation over seeds."""
