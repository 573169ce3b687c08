"""Matrix products on tensor cores, and FP64 from them. The jobs gemm.py and fp64.py beside this folder use it.

It imports nothing but itself (always relatively), NumPy and, where they are needed, torch, cuda-tile, Triton and
matplotlib: so it runs wherever the folder above is copied to, with or without hybridhpc.
"""
