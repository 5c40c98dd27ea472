"""Packed token shards in, a model out, and samples from it."""
