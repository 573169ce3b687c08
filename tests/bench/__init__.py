"""`make bench`: the budgets of the design, measured side by side with the tools they are compared to."""
