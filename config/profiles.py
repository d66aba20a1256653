"""The settings of profiles: what a kind of PACS or viewer gets, as differences from a profile that comes along."""

from typing import Annotated, Literal

from pydantic import Field

from config.section import Section
from config.values import Count, Form

ObjectName = Literal["SEG", "LABELMAP", "SC", "GSPS", "TEXT", "PLANAR", "SR", "KOS"]


class OwnProfile(Section):
    """A profile of yours: what it does not say is as in the profile that it extends."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$",
        description="Its name, for `profile` of destinations; UIDs depend on it.",
    )
    extends: Annotated[str, Form("one of ohif, slicer, weasis, orthanc, legacy, air")] = Field(
        description="The profile that it differs from, of those that come along.",
    )
    objects: tuple[ObjectName, ...] | None = Field(
        None, min_length=1, description="The kinds of evidence object, of those in docs/evidence.md."
    )
    transfer_syntax: Literal["explicit", "implicit", "deflated"] | None = Field(
        None, description="Little endian with explicit or implicit VR, or deflated; for all but the pictures."
    )
    picture_syntax: Literal["explicit", "implicit", "deflated", "rle", "jpeg-ls"] | None = Field(
        None, description="The same for secondary captures; rle and jpeg-ls are lossless."
    )
    empty_frames: bool | None = Field(None, description="Whether a SEG has a frame for slices without a region.")
    max_segments: Count | None = Field(None, ge=1, description="Regions in a SEG, at most; the surest ones.")
    max_pictures: Count | None = Field(
        None,
        ge=1,
        description="Key slices in secondary captures, presentation states and key object selection.",
    )
    summary: bool | None = Field(
        None, description="Whether the secondary captures begin with a page of words: verdict, reasons, revision."
    )
    series_number: int | None = Field(
        None, ge=1, le=2_000_000_000, description="Series Number of the first of our series; the others count on."
    )
    series_name: str | None = Field(
        None, min_length=1, max_length=40, description="What Series Descriptions begin with."
    )
    only_from: Literal["CLEAR", "ABSTAIN", "REVIEW", "SUSPECT"] | None = Field(
        None, description="Least verdict that is delivered: VERIFIED < CLEAR < ABSTAIN < REVIEW < SUSPECT."
    )
    transport: Literal["dimse", "stow"] | None = Field(None, description="C-STORE or STOW-RS.")
