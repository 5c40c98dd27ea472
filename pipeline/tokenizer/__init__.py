"""The commands ``pardalis tokenizer ...`` on a corpus: fit, eval, serve, encode, decode, and their pages."""
