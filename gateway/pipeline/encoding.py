"""The encode step: from a kept analysis to evidence objects, in the dialect of every destination."""

import time

import structlog

from config.settings import Destination
from gateway.app import App, CannotStart
from gateway.decoding import DecodingProcess
from gateway.metrics import Stage, stage_took
from gateway.pipeline.points import Point, reached
from gateway.results import (
    REPORTS,
    EvidenceFile,
    EvidenceKind,
    Predecessor,
    RevisionContext,
    build_evidence,
    profile_named,
)
from gateway.results.signing import CannotSign, load_signer
from inference.findings import StudyAnalysis
from storage import InstanceStore
from storage.analyses import NewEvidence, analysis_of, predecessor_report, save_evidence
from storage.digests import file_digest
from storage.studies import revision_contents
from storage.tables import RevisionState

log = structlog.get_logger(__name__)

# Without any destination the evidence is made and kept all the same, so that nothing has to be analysed again later.
DEFAULT_PROFILE: str = Destination.model_fields["profile"].default


class Encoder:
    """Makes evidence objects; their UIDs are derived, so making them again changes nothing (promise 2)."""

    def __init__(self, app: App, decoding: DecodingProcess) -> None:
        """`decoding` is for the key slices of pictures. Raises CannotStart when our key is not fit for our objects."""
        self._app = app
        self._decoding = decoding
        ours = app.settings.signatures.ours
        try:
            self._signer = load_signer(ours.certificate, ours.private_key) if ours is not None else None
        except CannotSign as fault:
            raise CannotStart(str(fault)) from fault

    def encode(self, revision_id: int) -> None:
        """Make and keep the evidence of an analysed revision. Raises gateway.results.ResultsError."""
        with self._app.database.reading() as session:
            contents = revision_contents(session, revision_id)
            if contents.revision.state is not RevisionState.ANALYSED:
                return
            begun = time.perf_counter()
            row = analysis_of(session, revision_id)
            own = self._app.settings.profiles
            profiles = sorted({each.profile for each in self._app.settings.destinations} or {DEFAULT_PROFILE})
            before = {
                name: {kind: predecessor_report(session, revision_id, name, kind.value) for kind in REPORTS}
                for name in profiles
            }
        assert row.path is not None and row.finished_at is not None  # noqa: S101, PT018 - a finished analysis has both
        analysis = StudyAnalysis.load(self._app.store.locate(row.path))
        # A study may consist of copies alone, the first of each UID belonging to another study: they say whose it is.
        sources = contents.instances or [*contents.quarantined, *contents.duplicates]
        files = tuple(self._app.store.locate(instance.path) for instance in sources)
        objects: list[NewEvidence] = []
        folders: list[str] = []
        for name in profiles:
            predecessors = {
                kind: Predecessor(found[0].sop_instance_uid, found[0].series_uid, found[1].number)
                for kind, found in before[name].items()
                if found is not None
            }
            context = RevisionContext(
                study_uid=contents.revision.study_uid,
                revision=contents.revision.number,
                model_set_digest=row.model_set,
                files=files,
                analysed_at=row.finished_at.astimezone(),
                predecessor=predecessors.get(EvidenceKind.SR),
                predecessors=predecessors,
            )
            with self._app.store.draft("evidence", revision_id) as draft, self._decoding.study():
                made = build_evidence(
                    analysis,
                    context,
                    profile_named(name, own),
                    draft.folder,
                    signer=self._signer,
                    decode=self._decoding.frames,
                )
                folder = draft.keep()
            folders.append(folder)
            objects += [_kept(self._app.store, name, folder, each) for each in made]
        reached(Point.EVIDENCE_WRITTEN)
        with self._app.database.transaction() as session:
            kept = {each.path for each in save_evidence(session, row.id, objects)}
        for folder in folders:
            if not any(path.startswith(f"{folder}/") for path in kept):
                self._app.store.remove(folder)
        stage_took(Stage.ENCODING, time.perf_counter() - begun)
        log.info("evidence is made", study_uid=contents.revision.study_uid, objects=len(objects))
        reached(Point.EVIDENCE_RECORDED)


def _kept(store: InstanceStore, profile: str, folder: str, made: EvidenceFile) -> NewEvidence:
    """What the index keeps of an object, now that its folder has its final name."""
    path = f"{folder}/{made.path.name}"
    file = store.locate(path)
    return NewEvidence(
        profile=profile,
        kind=made.kind.value,
        sop_instance_uid=made.sop_instance_uid,
        sop_class_uid=made.sop_class_uid,
        series_uid=made.series_uid,
        path=path,
        size=file.stat().st_size,
        file_sha256=file_digest(file),
        corrected=sorted({str(each.evidence.get("attribute", each.rule)) for each in made.observations}),
    )
