"""Benchmarks of the paper, scored as their official evaluators score, with the uncertainty they leave out.

A benchmark is a folder: benches.py says what it offers, run.py and score.py drive it. Import the parts by name (`from
eval.score import score_answers`): `import eval` would hide the builtin. Scoring saved answers needs no torch; only
`eval.run` generates.
"""
