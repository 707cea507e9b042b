"""Flow matching: noise levels, samplers and guidance for any velocity field, without networks."""
