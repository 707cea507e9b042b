"""Floor 3: procedural 4-D worlds: shapes, motions, captions, and a ray caster that knows the exact answer."""
