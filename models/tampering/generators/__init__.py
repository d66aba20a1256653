"""Generators of whole images: small networks, conditional on the organ, that leave different traces.

They stand in for what an attacker would use, so that the whole-image networks can be trained and measured on images
that no scanner made. Their weights are never shipped.
"""
