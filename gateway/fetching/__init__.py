"""Fetching: studies that an archive has and we do not, on request or by rule, and a patient's earlier studies.

What is fetched comes in our own association, never to our port, and enters the store by the same way as what was sent:
the same inspection, file and index, event for event.
"""
