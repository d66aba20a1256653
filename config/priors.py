"""The settings of prior studies: from where, and how many, those that rules ask for are fetched."""

from pydantic import Field

from config.section import Section
from config.values import Count, PositiveSeconds


class Priors(Section):
    """Earlier studies of a patient that rules ask for (`priors` of a rule), fetched in the background."""

    archive: str | None = Field(
        None,
        min_length=1,
        description="Name of the destination that has them; unset: `verification.archive`. `scanwarden fetch` and "
        "`scanwarden priors` ask it too, unless told another.",
    )
    studies_per_hour: Count = Field(20, ge=1, description="Prior studies that are fetched by rule in an hour.")
    per_patient: Count = Field(5, ge=1, description="Prior studies of one patient that are fetched by rule in a day.")
    interval: PositiveSeconds = Field(10, description="Seconds between two looks for prior studies to fetch.")
    attempts: Count = Field(
        8, ge=1, description="Attempts to ask for or fetch a prior study, the pauses doubling from a minute to an hour."
    )
