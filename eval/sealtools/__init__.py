"""Seal-Tools: tools found in a pool of thousands, and called (Wu et al. 2024, arXiv 2405.08355)."""
