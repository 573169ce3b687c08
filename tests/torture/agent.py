"""`hpc agent` in a hurry: the same program with shorter patience, so that minutes hold what days do."""

from __future__ import annotations

import sys

from hybridhpc import agent, remnants
from hybridhpc.cli import agent as verb
from hybridhpc.cli.main import run
from hybridhpc.decide import move, recover

agent.INTERRUPTED_FOR = 1.0
agent.LOOK_EVERY = 1.0
agent.LEASE_LASTS = 10.0
remnants.FORGETS = 6.0
verb.TICK = 0.3
verb.AFTER_TROUBLE = 0.5
move.PATIENCE = 0.0
move.MARGIN = 0.0
move.LEAST = 0.01
move.MOST_MOVES = 100
move.UNAVAILABLE_FOR = 3.0
recover.FIRST_PAUSE = 0.5
recover.CERTAIN_AFTER = 5.0
recover.EXPIRED_AFTER = 10.0
recover.MOST_UNBEGUN = 50
recover.LONGEST_PAUSE = 5.0

if __name__ == "__main__":
    sys.exit(run(["agent", *sys.argv[1:]]))
