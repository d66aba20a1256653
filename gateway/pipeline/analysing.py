"""The analyse step: from a closed revision to a verdict that is kept. Pixels are decoded in a process of their own."""

import os
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from gateway.app import App
from gateway.decoding import DecodingProcess
from gateway.decoding.process import DecoderDied
from gateway.metrics import Stage, stage_took
from gateway.pipeline.copies import difference_of, repeats_observed
from gateway.pipeline.habits import Devices, devices_of, known_habits, learn
from gateway.pipeline.limits import EXIT_OUT_OF_MEMORY, deadline
from gateway.pipeline.patience import patiently
from gateway.pipeline.points import Point, reached
from gateway.pipeline.related import note_whose, priors_observed
from gateway.pipeline.routing import Route, route_of
from gateway.pipeline.trust import trust_in
from gateway.results import model_set_digest
from inference.analysis import analyse_study
from inference.detectors import Detector, detectors_for, used
from inference.findings import ModelUsed, Observation, Severity, StudyAnalysis, Verdict
from inference.provenance import Baseline
from inference.whole_images import image_model_for
from inference.whole_images import used as image_model_used
from storage import PixelsUnreadable
from storage.analyses import (
    NewAnalysis,
    NewIncident,
    begin_analysis,
    decide_contested,
    pass_over,
    record_pixel_digests,
    save_analysis,
    stored_copy,
)
from storage.audit.events import Detail
from storage.copies import note_repeated_pixels, repeated_pixels
from storage.digests import file_digest
from storage.firstseen import record_first_seen, recorded_uids
from storage.priors import known_priors
from storage.studies import RevisionContents, revision_contents
from storage.tables import Instance, InstanceState, RevisionState

log = structlog.get_logger(__name__)

# `analyse_study` looks at the clock between slices; only what hangs inside one comes this far.
GRACE_SECONDS = 60.0
# The ledger has this one since the copy was decided on.
SAME_UID = "same-uid-other-pixels"
NOT_SHOWN = "series-not-analysed"
DELETED = "earlier-images-deleted"
ALTERED_HERE = "stored-file-altered"


class Analyst:
    """Analyses revisions, one at a time, with the models that the settings name."""

    def __init__(self, app: App) -> None:
        """Load and verify the models. Raises what `detectors_for` and `image_model_for` of inference raise."""
        self._app = app
        limits = app.settings.analysis
        self._detectors: tuple[Detector, ...] = detectors_for(
            limits.models, device=limits.device, threads=limits.threads
        )
        self._models = tuple(used(detector) for detector in self._detectors)
        self._image_model = image_model_for(limits.image_model, device=limits.device, threads=limits.threads)
        self.models = self._named(self._detectors)
        self.model_set = model_set_digest(self.models)
        self.decoding = DecodingProcess(memory_limit=limits.decoder_memory, timeout=limits.decoder_timeout or None)

    def analyse(self, revision_id: int) -> None:
        """Decide contested copies, take pixel digests, look at the images, keep the result. Repeatable at any point.

        An input that takes the process down is known by the attempt that was committed before; after
        `analysis.attempts` of them the study is abstained from, with the reason, and its report still goes out.
        """
        contents = patiently(self._contents, revision_id)
        if contents.revision.state is not RevisionState.CLOSED:
            return
        if contents.revision.attempts == 0 and contents.revision.closed_at is not None:
            stage_took(Stage.QUEUE, (datetime.now(UTC) - contents.revision.closed_at).total_seconds())
        routing = route_of(self._app, contents.instances)
        chosen = self._chosen(routing)
        model_set = model_set_digest(self._named(chosen))
        analysis: StudyAnalysis | None = None
        devices: Devices = {}
        fault = ""
        while analysis is None:
            attempt = patiently(self._begin, revision_id, model_set)
            reached(Point.ANALYSIS_BEGUN)
            if attempt > self._app.settings.analysis.attempts:
                patiently(self._record_what_is_known, contents)
                analysis = self._given_up(contents, self._named(chosen), attempt - 1, fault)
                break
            try:
                if routing.ignores_all:
                    self._record_only(contents)
                    patiently(self._pass_over, contents, routing)
                    return
                analysis, devices = self._look(contents, routing, chosen)
            except MemoryError:
                self._leave(contents)
            except Exception as error:  # noqa: BLE001 - whatever it is, the study gets a verdict and the others a turn
                if _is_out_of_memory(error):
                    self._leave(contents)
                fault = type(error).__name__
                _log_without_values("an analysis failed", contents, error)
        patiently(self._keep, revision_id, model_set, analysis, devices)

    def _contents(self, revision_id: int) -> RevisionContents:
        with self._app.database.reading() as session:
            return revision_contents(session, revision_id)

    def _begin(self, revision_id: int, model_set: str) -> int:
        with self._app.database.transaction() as session:
            return begin_analysis(session, revision_id, model_set)

    def _chosen(self, routing: Route) -> tuple[Detector, ...]:
        wanted = routing.models([model.name for model in self._models])
        return tuple(
            detector for detector, model in zip(self._detectors, self._models, strict=True) if model.name in wanted
        )

    def _named(self, detectors: Sequence[Detector]) -> tuple[ModelUsed, ...]:
        """The model set of an analysis: rules choose among the detectors, the whole-image model always looks."""
        whole = () if self._image_model is None else (image_model_used(self._image_model),)
        return (*(used(detector) for detector in detectors), *whole)

    def _record_only(self, contents: RevisionContents) -> None:
        """What is kept of every study, looked at or not: decided copies and the digests as first seen."""
        limit = self._app.settings.analysis.time_limit
        with ExitStack() as bounds:
            if limit:
                bounds.enter_context(deadline(limit + GRACE_SECONDS, lambda: self._hung(contents)))
            bounds.enter_context(self.decoding.study())
            patiently(self._settle, contents)
            patiently(self._take_digests, contents, self._altered(contents))
        patiently(note_whose, self._app, contents.revision.study_uid, contents.instances)

    def _pass_over(self, contents: RevisionContents, routing: Route) -> None:
        with self._app.database.transaction() as session:
            pass_over(session, contents.revision.id, routing.ignored)
        log.info(
            "a revision is not looked at, as the rules say",
            study_uid=contents.revision.study_uid,
            rules=sorted(set(routing.ignored.values())),
        )

    def _look(
        self, contents: RevisionContents, routing: Route, detectors: Sequence[Detector]
    ) -> tuple[StudyAnalysis, Devices]:
        limits = self._app.settings.analysis
        with ExitStack() as bounds:
            if limits.time_limit:
                bounds.enter_context(deadline(limits.time_limit + GRACE_SECONDS, lambda: self._hung(contents)))
            bounds.enter_context(self.decoding.study())
            patiently(self._settle, contents)
            altered = self._altered(contents)
            patiently(self._take_digests, contents, altered)
            contents = patiently(self._contents, contents.revision.id)
            shown = [instance for instance in contents.instances if instance.series_uid not in routing.ignored]
            files = [self._app.store.locate(instance.path) for instance in shown]
            devices = devices_of(files)
            analysis = analyse_study(
                files,
                models=detectors,
                image_model=self._image_model,
                device=limits.device,
                batch=limits.batch,
                threads=limits.threads,
                max_voxels=limits.max_voxels,
                time_limit=limits.time_limit or float("inf"),
                observations=(
                    *_incidents(contents),
                    *_altered_here(altered),
                    *patiently(self._repeats, contents),
                    *patiently(self._priors, contents),
                    *_not_shown(routing),
                ),
                trust=trust_in(self._app.settings, self._app.store, shown),
                baselines=patiently(self._habits, devices),
                study_uid=contents.revision.study_uid,
                decode=self.decoding.frames,
            )
            words = tuple(each.text for each in _not_shown(routing))
            return replace(analysis, reasons=(*analysis.reasons, *words)), devices

    def _habits(self, devices: Devices) -> Mapping[str, Baseline]:
        with self._app.database.reading() as session:
            return known_habits(session, devices)

    def _repeats(self, contents: RevisionContents) -> tuple[Observation, ...]:
        with self._app.database.reading() as session:
            return repeats_observed(repeated_pixels(session, [each.id for each in contents.instances]))

    def _priors(self, contents: RevisionContents) -> tuple[Observation, ...]:
        """Whose study it is, by digest, is kept; what else is here of the same patient goes into the report."""
        note_whose(self._app, contents.revision.study_uid, contents.instances)
        with self._app.database.reading() as session:
            return priors_observed(known_priors(session, contents.revision.study_uid))

    def _settle(self, contents: RevisionContents) -> None:
        """Promise 4: a second copy with other bytes is a duplicate when it shows the same, else an incident."""
        for copy in contents.contested:
            with self._app.database.reading() as session:
                first = stored_copy(session, copy.sop_instance_uid)
            digests: dict[str, Detail] = {"content": self._content(first), "other_content": self._content(copy)}
            same = digests["content"] is not None and digests["content"] == digests["other_content"]
            details = digests if same else digests | self._difference(first, copy)
            with self._app.database.transaction() as session:
                state = decide_contested(session, copy.id, same=same, details=details)
            if not same:
                log.error(
                    "an instance arrived again with other pixels; the second copy is in quarantine",
                    study_uid=copy.study_uid,
                    sop_instance_uid=copy.sop_instance_uid,
                    source=f"{copy.source_ae}@{copy.source_address}",
                    state=state.value,
                )

    def _difference(self, first: Instance, copy: Instance) -> dict[str, Detail]:
        expired = first.state is InstanceState.EXPIRED
        locate = self._app.store.locate
        return difference_of(self.decoding, None if expired else locate(first.path), locate(copy.path))

    def _content(self, instance: Instance) -> str | None:
        if instance.state is InstanceState.EXPIRED:
            return instance.pixel_sha256  # its file is past its age and gone
        try:
            return self.decoding.content_digest(self._app.store.locate(instance.path))
        except (PixelsUnreadable, DecoderDied):
            return None

    def _altered(self, contents: RevisionContents) -> frozenset[str]:
        """Instances whose files are not what was acknowledged: the PACS may hold another image than we look at."""
        found = []
        for instance in contents.instances:
            try:
                if file_digest(self._app.store.locate(instance.path)) != instance.file_sha256:
                    found.append(instance.sop_instance_uid)
            except OSError:
                continue  # what cannot be read is not analysed, and the analysis says so
        return frozenset(found)

    def _take_digests(self, contents: RevisionContents, altered: Collection[str]) -> None:
        with self._app.database.reading() as session:
            recorded = recorded_uids(session, contents.revision.study_uid)
        pixels: dict[int, str] = {}
        attributes: dict[int, dict[str, str]] = {}
        for instance in contents.instances:
            if instance.pixel_sha256 is not None and instance.sop_instance_uid in recorded:
                continue
            if instance.sop_instance_uid in altered:
                continue
            try:
                attributes[instance.id], digest = self.decoding.digests(self._app.store.locate(instance.path))
            except (PixelsUnreadable, DecoderDied):
                continue  # what cannot be decoded has no digest; the analysis says why
            if digest is not None:
                pixels[instance.id] = digest
        with self._app.database.transaction() as session:
            record_pixel_digests(session, pixels)
            record_first_seen(session, contents.revision.id, attributes)
            note_repeated_pixels(session, contents.revision.id, pixels)

    def _record_what_is_known(self, contents: RevisionContents) -> None:
        """Of a study whose analysis was given up, the digests that need no decoding."""
        with self._app.database.transaction() as session:
            record_first_seen(session, contents.revision.id, {})

    def _given_up(
        self, contents: RevisionContents, models: tuple[ModelUsed, ...], attempts: int, fault: str
    ) -> StudyAnalysis:
        times = f"{attempts} time{'s' if attempts != 1 else ''}"
        what = f"the analysis failed {times} ({fault})" if fault else f"the analysis took its process down {times}"
        reason = f"{what}, so it was given up; `scanwarden retry` starts it again"
        log.error(reason, study_uid=contents.revision.study_uid, revision=contents.revision.number)
        return StudyAnalysis(
            study_uid=contents.revision.study_uid,
            verdict=Verdict.ABSTAIN,
            score=0.5,
            reasons=(reason,),
            observations=_incidents(contents),
            models=models,
        )

    def _hung(self, contents: RevisionContents) -> None:
        log.error("an analysis hangs; its process ends", study_uid=contents.revision.study_uid)

    def _leave(self, contents: RevisionContents) -> None:
        """A heap that ran full is not used for another study."""
        log.error(
            "an analysis needs more memory than analysis.memory_limit; its process ends",
            study_uid=contents.revision.study_uid,
            memory_limit=self._app.settings.analysis.memory_limit,
        )
        os._exit(EXIT_OUT_OF_MEMORY)

    def _keep(self, revision_id: int, model_set: str, analysis: StudyAnalysis, devices: Devices) -> None:
        with self._app.store.draft("analyses", revision_id) as draft:
            analysis.save(draft.folder)
            path = draft.keep()
        reached(Point.ANALYSIS_WRITTEN)
        result = NewAnalysis(
            analysis.verdict.value,
            analysis.score,
            analysis.reasons,
            len(analysis.findings),
            path,
            analysis.seconds,
            tuple(
                NewIncident(each.rule, each.text, each.sop_instance_uids)
                for each in analysis.observations
                if each.severity is Severity.INCIDENT and each.rule != SAME_UID
            ),
            tuple(each.series_uid for each in analysis.synthesis if each.verdict in (Verdict.SUSPECT, Verdict.REVIEW)),
        )
        with self._app.database.transaction() as session:
            kept = save_analysis(session, revision_id, model_set, result)
            if kept.path == path:  # otherwise the run that was faster has taught
                learn(session, analysis, devices)
        if kept.path != path:
            self._app.store.remove(path)
        stage_took(Stage.ANALYSIS, analysis.seconds)
        log.info(
            "a revision is analysed",
            study_uid=analysis.study_uid,
            verdict=analysis.verdict.value,
            findings=len(analysis.findings),
            seconds=analysis.seconds,
        )
        reached(Point.ANALYSIS_RECORDED)


def _not_shown(routing: Route) -> tuple[Observation, ...]:
    """That somebody decided not to look must stand beside what was found in the rest."""
    ignored = routing.ignored
    if not ignored:
        return ()
    names = ", ".join(sorted(set(ignored.values())))
    text = f"{len(ignored)} of {len(routing.series)} series were not looked at, as a rule says: {names}."
    return (Observation(NOT_SHOWN, Severity.INFO, text, {"series": sorted(ignored), "rules": names}),)


def _incidents(contents: RevisionContents) -> tuple[Observation, ...]:
    """What the store knows and the files do not show."""
    return (*(_incident(copy) for copy in contents.quarantined), *_deleted(contents))


def _deleted(contents: RevisionContents) -> tuple[Observation, ...]:
    """A warning: what is analysed alone lacks its neighbours, and CLEAR would be read as a word on the whole study."""
    gone, held = contents.deleted, len(contents.instances)
    if not gone:
        return ()
    text = (
        f"{gone} of the study's {gone + held} instances were past their age and deleted before these came late; only "
        f"the {held} that are still held were looked at. An earlier report speaks of the others."
    )
    return (Observation(DELETED, Severity.WARNING, text, {"deleted": gone, "held": held}),)


def _incident(copy: Instance) -> Observation:
    evidence: Mapping[str, str] = {"source": f"{copy.source_ae}@{copy.source_address}", "file_sha256": copy.file_sha256}
    return Observation(
        rule=SAME_UID,
        severity=Severity.INCIDENT,
        text="An instance arrived again with other pixels under the same UID; the first copy was analysed, "
        "the second is in quarantine.",
        evidence=evidence,
        sop_instance_uids=(copy.sop_instance_uid,),
    )


def _altered_here(altered: Collection[str]) -> tuple[Observation, ...]:
    if not altered:
        return ()
    text = (
        f"{len(altered)} files in our own store are not what was received and acknowledged. What was analysed here may "
        "not be what the archive holds; compare it with what was first seen: scanwarden verify."
    )
    return (Observation(ALTERED_HERE, Severity.INCIDENT, text, {"files": len(altered)}, tuple(sorted(altered))),)


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a type of its own for a full GPU, and none for a full heap.
    name, text = type(error).__name__, str(error)
    return name == "OutOfMemoryError" or "can't allocate memory" in text or "Unable to allocate" in text


def _log_without_values(message: str, contents: RevisionContents, error: Exception) -> None:
    """Where it failed, but not the error's text: a library may have put a header's value into it (promise 7)."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    log.error(
        message,
        study_uid=contents.revision.study_uid,
        revision=contents.revision.number,
        error=type(error).__name__,
        where=" < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames)),
    )
