"""Embeddings to neighbours. Arrays in, arrays out."""
