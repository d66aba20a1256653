"""Networks, their input tensors, weights and cards; the tampering lab, training and evaluation.

Receivers import nothing from here: torch and OpenCV are loaded by the modules that use them, never by this file.
"""
