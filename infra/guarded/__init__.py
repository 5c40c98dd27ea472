"""Readers for bytes that we do not trust: every one has a budget."""
