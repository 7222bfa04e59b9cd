"""Benchmarks of bnpp and its peers, as their users call them: ``python -m benchmarks.python``."""
