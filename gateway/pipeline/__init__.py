"""A study's life: instances become a revision, a revision becomes evidence, evidence is delivered.

Revisions are closed by the sweep (`revisions`), then carried by one durable workflow each (`workflow`), whose steps
stand in `analysing`, `encoding` and `delivery`. All that knows the workflow engine stands in `queues`.
"""
