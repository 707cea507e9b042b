"""Low-rank updates of the transformers: names, files, merging, training."""
