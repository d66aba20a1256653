"""The DICOM Conformance Statement (PS3.2 Annex N): tables from the code, words from a template.

What can be read off the code is read off it, so that docs/conformance.md says nothing that the program does not do;
tests hold the tables against a running receiver, against what we propose to a peer, and against the objects we make.
"""

from gateway.conformance.statement import statement

__all__ = ["statement"]
