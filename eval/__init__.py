"""Benchmarks of the paper, scored as their official evaluators score, with the uncertainty they leave out.

Import the parts by name (`from eval.bfcl.benchmark import score_answers`): `import eval` would hide the builtin. Scoring saved
answers needs no torch; only `eval.run` generates.
"""
