"""Whole images: which organ an image shows, and whether a scanner made it."""
