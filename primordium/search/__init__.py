"""Which candidate comes next: proposers, engine, store."""
