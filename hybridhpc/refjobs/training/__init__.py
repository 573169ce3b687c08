"""What the job train.py beside this folder does. It imports nothing but itself, torch, scikit-learn and matplotlib."""
