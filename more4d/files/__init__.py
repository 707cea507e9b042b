"""Floor 2: everything that is read or written. One save/load pair per kind of thing; writes are atomic."""
