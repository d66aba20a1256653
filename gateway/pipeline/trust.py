"""What the settings and the store say about the instances of a revision: who must sign, and what is as first seen."""

from collections.abc import Iterable, Sequence

from config.settings import Settings, Source
from inference.provenance import Trust, load_authorities
from storage import InstanceStore
from storage.digests import file_digest
from storage.tables import Instance


def trust_in(settings: Settings, store: InstanceStore, instances: Sequence[Instance]) -> Trust:
    """What `inference` needs to judge the signatures and digests of these instances.

    An instance counts as first seen when it came from a trusted source and its file is, to the byte, what was stored
    then: the file is read again, because somebody may have been in the store. Raises AuthoritiesUnreadable.
    """
    authorities = settings.signatures.authorities
    must_sign, first_seen = set(), set()
    for instance in instances:
        source = _source(settings.dicom.sources, instance)
        if source is None:
            continue
        if source.require_signature:
            must_sign.add(instance.sop_instance_uid)
        if source.trusted and source.certificate_subject is not None and _is_as_stored(store, instance):
            first_seen.add(instance.sop_instance_uid)
    return Trust(
        authorities=load_authorities(authorities) if authorities is not None else (),
        must_sign=frozenset(must_sign),
        first_seen=frozenset(first_seen),
        received={instance.sop_instance_uid: instance.received_at for instance in instances},
    )


def _source(sources: Iterable[Source], instance: Instance) -> Source | None:
    """The source that an instance came from: the index keeps AE title and address of the first copy.

    Where several match (they differ by certificate), the one that promises least decides.
    """
    matching = [s for s in sources if s.ae_title == instance.source_ae and s.admits(instance.source_address)]
    if not matching:
        return None
    must_sign = any(source.require_signature for source in matching)
    trusted = all(source.trusted and source.certificate_subject is not None for source in matching)
    return matching[0].model_copy(update={"require_signature": must_sign, "trusted": trusted})


def _is_as_stored(store: InstanceStore, instance: Instance) -> bool:
    try:
        return file_digest(store.locate(instance.path)) == instance.file_sha256
    except OSError:
        return False
