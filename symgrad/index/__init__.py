"""The language of index formulas: what an op is, before anything is known of networks."""
