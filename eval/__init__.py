"""Benchmarks of the paper, scored as their official evaluators score, with the uncertainty they leave out.

A benchmark is a folder: benches.py says what it offers; score.py and pipeline/evaluate.py drive it. Import the parts by
name (`from eval.score import score_answers`): `import eval` would hide the builtin. Nothing here needs torch:
pipeline/evaluate.py generates.
"""
