"""Decoders run in a process of their own: one that crashes, hangs or swells costs an instance and nothing else.

`process` is the side that asks, `worker` the process that decodes. Requests go there pickled, for it is ours; what
comes back is JSON and raw pixels and is never unpickled, for a decoder that was broken into may have written it.
"""

from gateway.decoding.process import DecodingProcess

__all__ = ["DecodingProcess"]
