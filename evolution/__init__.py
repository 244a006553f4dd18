"""Around one round of self-evolution (evolve.py): its settings and flags, its files and how it resumes, its ledger."""
