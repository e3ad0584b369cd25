"""Every error a user can cause: one clear line, a stable code, exit status 2."""

__all__ = [
    "AddressError",
    "BudgetSpent",
    "CheckpointError",
    "DataBroken",
    "DataMissing",
    "DataUnusable",
    "DetectorMisused",
    "KeysError",
    "MessageRefused",
    "MissingExtra",
    "RecipeError",
    "StorageError",
    "TooFewNodes",
    "TooFewWorkers",
    "TrainingDiverged",
    "UnknownName",
    "VedetteError",
]


class VedetteError(Exception):
    """An error a user can cause; the command line prints it in one line and exits 2."""

    code = "vedette"


class UnknownName(VedetteError):
    """A recipe, data set, detector, strategy or key that nobody knows."""

    code = "unknown-name"


class RecipeError(VedetteError):
    """A recipe or setting that says something impossible."""

    code = "recipe"


class DataMissing(VedetteError):
    """A folder or file of a data set that is not there."""

    code = "data-missing"


class DataBroken(VedetteError):
    """A file that cannot be read as the table it should hold."""

    code = "data-broken"


class DataUnusable(VedetteError):
    """A table that was read well but cannot be learned from or scored."""

    code = "data-unusable"


class TrainingDiverged(VedetteError):
    """A loss or weight that is no longer a finite number."""

    code = "training-diverged"


class CheckpointError(VedetteError):
    """A checkpoint or saved detector that does not fit or was damaged."""

    code = "checkpoint"


class StorageError(VedetteError):
    """A file that could not be written: a full disk, a missing right."""

    code = "storage"


class DetectorMisused(VedetteError):
    """A detector used before it was fitted, or on rows of another shape."""

    code = "detector-misused"


class MissingExtra(VedetteError):
    """A part of Vedette whose libraries are not installed."""

    code = "missing-extra"


class MessageRefused(VedetteError):
    """A message that is not as it should be: damaged, not expected, or hostile."""

    code = "message-refused"


class TooFewWorkers(VedetteError):
    """Worker processes that could not be kept running."""

    code = "workers"


class TooFewNodes(VedetteError):
    """Nodes of a round of which too many vanished for a secure sum."""

    code = "nodes"


class KeysError(VedetteError):
    """A device's key or certificate that is absent, damaged, ended or revoked; or a name that is none."""

    code = "keys"


class AddressError(VedetteError):
    """An address that cannot be listened at, or where nobody answers."""

    code = "network"


class BudgetSpent(VedetteError):
    """Training that would cost more privacy than may be spent."""

    code = "privacy"
