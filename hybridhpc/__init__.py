"""One command for research jobs on your own cluster and the clouds. Importing this package imports nothing else."""

__version__ = "0.1.0"
