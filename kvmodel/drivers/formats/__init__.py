"""Formats for stores that hold bytes or text: what keys, records and the catalogue look like there."""
