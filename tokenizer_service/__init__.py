"""Images and text to token ids, and back. Arrays in, arrays out."""
