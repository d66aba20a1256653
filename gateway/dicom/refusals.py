"""Why an instance is refused, and the DICOM status that says so (PS3.4 B.2.3, PS3.7 C).

A refusal is an answer, not an accident: the sender gets the status with a comment, the ledger an event, and the
association goes on.
"""

STATUS_SUCCESS = 0x0000
STATUS_PROCESSING_FAILURE = 0x0110
STATUS_OUT_OF_RESOURCES = 0xA700
STATUS_DATA_SET_MISMATCH = 0xA900
STATUS_CANNOT_UNDERSTAND = 0xC000

COMMENT_LENGTH = 64  # of (0000,0902) ErrorComment, VR LO


class RefusedInstance(Exception):
    """An instance that is not taken; `comment` goes to the sender, `reason` names it in the ledger."""

    dicom_status = STATUS_CANNOT_UNDERSTAND
    reason = "refused"
    study_uid: str | None = None

    def __init__(self, comment: str) -> None:
        super().__init__(comment)
        self.comment = comment.encode("ascii", "replace").decode()[:COMMENT_LENGTH]


class UidInvalid(RefusedInstance):
    """A UID that is not digits and dots, 64 characters at most (PS3.5 9.1), in the command or as the instance's own."""

    dicom_status = STATUS_DATA_SET_MISMATCH
    reason = "uid_invalid"

    def __init__(self, keyword: str, found: str) -> None:
        super().__init__(f"{keyword} is not a valid UID ({len(found)} characters)")


class UidMismatch(RefusedInstance):
    """The data set names another SOP class or instance than the command, or none (PS3.4 B.2.3)."""

    dicom_status = STATUS_DATA_SET_MISMATCH
    reason = "uid_mismatch"

    def __init__(self, keyword: str, *, present: bool) -> None:
        super().__init__(f"{keyword} of data set {'differs from command' if present else 'is missing'}")


class ParentUidUnusable(RefusedInstance):
    """No valid StudyInstanceUID or SeriesInstanceUID: the instance cannot be put into a study."""

    reason = "parent_uid_unusable"

    def __init__(self, keyword: str, *, present: bool) -> None:
        super().__init__(f"{keyword} is {'not a valid UID' if present else 'missing'}")


class StudyMismatch(RefusedInstance):
    """An instance of another study than the one that a STOW-RS request names (PS3.18 10.5.1)."""

    dicom_status = STATUS_DATA_SET_MISMATCH
    reason = "study_mismatch"

    def __init__(self) -> None:
        super().__init__("StudyInstanceUID differs from that of the request")


class DataSetTruncated(RefusedInstance):
    """An element, item or sequence reaches beyond the end of the data set (PS3.5 7.1)."""

    reason = "data_set_truncated"

    def __init__(self, tag: int, needed: int, found: int) -> None:
        super().__init__(f"truncated at ({tag >> 16:04X},{tag & 0xFFFF:04X}): needs {needed} bytes, has {found}")


class DataSetMalformed(RefusedInstance):
    """Bytes that are no data set in the negotiated transfer syntax."""

    reason = "data_set_malformed"


class PixelDataTooShort(RefusedInstance):
    """Rows × Columns × Samples × Frames needs more bytes than arrived (PS3.5 section 8)."""

    reason = "pixel_data_too_short"

    def __init__(self, needed: int, found: int) -> None:
        super().__init__(f"pixel data has {found} bytes, needs {needed}; resend it")


class InstanceTooLarge(RefusedInstance):
    """The data set is larger than `dicom.max_instance_bytes`."""

    dicom_status = STATUS_OUT_OF_RESOURCES
    reason = "instance_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"data set exceeds {limit} bytes")


class StoreUnavailable(RefusedInstance):
    """The disk is full or failing, or the database does not answer: the sender should try again later."""

    dicom_status = STATUS_OUT_OF_RESOURCES
    reason = "store_unavailable"


class MemoryShort(RefusedInstance):
    """The receivers take more memory than `dicom.memory_watermark`; A700 is the disk's, so that a sender can tell."""

    dicom_status = 0xA701
    reason = "memory_watermark"


class HandlerFailed(RefusedInstance):
    """A fault of ours, kept from taking the association down."""

    dicom_status = STATUS_PROCESSING_FAILURE
    reason = "internal_fault"
