"""One file per verb: arguments in, table or JSON out. No decision is made here."""
