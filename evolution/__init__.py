"""Around one round of self-evolution (evolve.py): its settings, its files and how it resumes, its ledger."""
