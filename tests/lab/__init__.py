"""A laboratory of real Slurm on one machine, for tests and for people: `python -m tests.lab up`.

Only the standard library is used outside fixtures.py and the tests, so that a bare python3 can run it.
"""
