"""Where weights are kept and how fast blocks run: offloading, step caches, attention kernels, compilation."""
