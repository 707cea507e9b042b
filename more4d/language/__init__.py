"""What people say: a thesaurus, reading prompts as clauses, and writing them in the words of captions."""
