"""Everything the system reads or writes: one save/load pair per kind of value."""
