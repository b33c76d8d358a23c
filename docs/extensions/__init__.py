"""What Sphinx needs to make pages from the code."""
