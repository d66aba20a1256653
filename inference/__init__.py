"""From files to a verdict: volumes by geometry, detectors, provenance checks, fusion. No database, no network.

`inference.analysis.analyse_study` is the one entry; `inference.findings` says what it returns.
"""
