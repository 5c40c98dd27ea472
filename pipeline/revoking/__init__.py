"""Taking assets back: which they are, what is left without them, and a version that says so."""
