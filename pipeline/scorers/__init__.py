"""What models see: one module a scorer, arrays in, arrays out. Each knows its weights by sha256."""
