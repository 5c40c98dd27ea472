"""One module for each accepted form of delivery."""
