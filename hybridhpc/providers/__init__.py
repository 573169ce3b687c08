"""Who owns nodes and what they cost. Effects; no scheduler is known here."""
