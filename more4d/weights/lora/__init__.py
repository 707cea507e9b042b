"""Low-rank updates (LoRA) of the transformers: names, files, merging, training."""
