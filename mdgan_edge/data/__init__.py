"""Images from where they lie into memory, and how they are dealt out to nodes."""
