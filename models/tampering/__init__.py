"""The tampering lab: makes edits of known place and kind, because no collection of real ones exists.

Every edit is composed onto the genuine image: pixels outside the mask stay what they were, bit by bit.
"""
