"""Asking a corpus: its members as columns, who may see which of them, and the service that answers."""
