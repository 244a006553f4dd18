"""API-Bank, levels 1 and 2 (Table 2 of the paper)."""
