"""T-Eval: planning, retrieval and understanding (Table 2 of the paper)."""
