"""What the mapper costs beside code written by hand. See README.md in this folder."""
