"""One file for each SOP Instance UID: equal images are one instance, different ones an incident."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from inference.decoding import Decode, refuse_unreadable
from inference.errors import UnreadableInstance
from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.limits import MAX_VOXELS


def without_doubles(instances: Sequence[Instance], decode: Decode) -> tuple[list[Instance], list[Observation]]:
    """The instances to analyse, by the name of their files, and the incident that some UIDs make."""
    kept: dict[str, Instance] = {}
    contested: list[str] = []
    for instance in sorted(instances, key=lambda instance: str(instance.file)):
        first = kept.setdefault(instance.sop_instance_uid, instance)
        if first is not instance and not _same_image(first, instance, decode):
            contested.append(instance.sop_instance_uid)
    if not contested:
        return list(kept.values()), []
    uids = tuple(dict.fromkeys(contested))
    text = f"{len(uids)} SOP Instance UID{'s name' if len(uids) > 1 else ' names'} several different images"
    return list(kept.values()), [Observation("same-uid-other-file", Severity.INCIDENT, text, {}, uids)]


def _same_image(one: Instance, other: Instance, decode: Decode) -> bool:
    """Whether two files hold the same bytes, or the same pixels at the same place in another transfer syntax."""
    if one.file.read_bytes() == other.file.read_bytes():
        return True
    try:
        for instance in (one, other):
            refuse_unreadable(instance, MAX_VOXELS)
        return one.frames == other.frames and _pixels(one, decode) == _pixels(other, decode)
    except UnreadableInstance:
        return False


def _pixels(instance: Instance, decode: Decode) -> str:
    digest = sha256()
    for frame in decode(instance):
        digest.update(str(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame + 0.0).data)  # the two zeros are one value
    return digest.hexdigest()
