"""Exceptions of training, as a branch of the runtime's tree; the number is the exit code.

EdgeUnetError
├── InputError            3
│   └── DataError         3   a dataset, or a file in it, cannot be used for training
├── UsageError            2
│   └── ResumeError       2   the run folder has another configuration or other data
├── DivergedError         8   the loss or a weight is not finite
└── LoaderError          70   preparing a batch failed
"""

from __future__ import annotations

from edge_runtime.errors import EdgeUnetError, InputError, UsageError


class DataError(InputError):
    """A dataset, or a file in it, cannot be used for training.

    Example:
        >>> from training import DataError, train
        >>> for kind in ("images", "masks"):
        ...     (tmp_path / "empty" / kind).mkdir(parents=True)
        >>> try:
        ...     train(tmp_path / "empty", tmp_path / "run-of-nothing")
        ... except DataError as error:
        ...     error.exit_code
        3
    """


class ResumeError(UsageError):
    """A run folder cannot be resumed with this configuration or data.

    Example:
        >>> from training import ResumeError, train
        >>> (tmp_path / "no-run").mkdir()
        >>> _ = (tmp_path / "no-run" / "holiday.jpg").write_bytes(b"")
        >>> try:
        ...     train(data, tmp_path / "no-run", resume=True)
        ... except ResumeError as error:
        ...     "no run.json inside" in str(error)
        True
    """


class DivergedError(EdgeUnetError):
    """Training diverged: the loss or a weight is not finite.

    Example:
        >>> from training import DivergedError, TrainConfig, train
        >>> size = {"input_size": (32, 32), "batch_size": 2}
        >>> config = TrainConfig.from_preset("seed", epochs=1, learning_rate=1e39, **size)
        >>> try:
        ...     train(data, tmp_path / "diverged", config)
        ... except DivergedError as error:
        ...     error.exit_code
        8
    """

    exit_code = 8


class LoaderError(EdgeUnetError):
    """Preparing a batch failed for a reason that the dataset check cannot detect; the message names the file.

    Example:
        >>> from training import LoaderError
        >>> LoaderError.exit_code
        70
    """

    exit_code = 70


class TrainingStopped(Exception):  # noqa: N818 -- not an error: the caller asked for it
    """Training stopped because ``should_stop`` returned True; its state is saved.

    Example:
        >>> from training import TrainConfig, TrainingStopped, train
        >>> config = TrainConfig.from_preset("edge-nano", input_size=(32, 32), batch_size=2, epochs=1)
        >>> try:
        ...     train(data, tmp_path / "stopped", config, should_stop=lambda: True)
        ... except TrainingStopped as stopped:
        ...     print(stopped)
        stopped while reading train images
    """
