"""Customer displays: lines of text in, the bytes of one whole picture out."""
