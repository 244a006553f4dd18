"""The Berkeley Function-Calling Leaderboard, single-turn AST categories (Table 1 of the paper)."""
