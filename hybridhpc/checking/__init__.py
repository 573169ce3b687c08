"""What is wrong with a set-up, and the fix: one function per thing looked at. Nothing is mended or decided here."""
