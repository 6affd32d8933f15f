"""An open episode of any source: its frames, vectors, and what is known of it at a frame."""
