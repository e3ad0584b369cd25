"""Data sets that are read from files: which ones, found before anything is read, and read once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from vedette.data.cache import cached
from vedette.data.dataset import Dataset, Loader
from vedette.data.stored import NewMatrix
from vedette.errors import DataMissing

__all__ = ["FileLoader"]


class FileLoader(Loader):
    """Base of the loaders that read files: `sources` finds them, `read` reads them, `load` keeps what was read for the next time."""

    @classmethod
    def is_here(cls, root: Path) -> bool:
        """Tell whether the files lie under a data root that it reads unless settings say otherwise, plain or gzip'ed."""
        return cls()._finds(root)

    def _finds(self, root: Path) -> bool:
        try:
            return bool(self.sources(root))
        except DataMissing:
            return False

    @classmethod
    def find(cls, root: Path | None, name: str) -> Path:
        """Return where an official file lies: plain or gzip'ed, in the loader's folder below `root` or in `root` itself.

        Raises
        ------
        DataMissing
            No root, no such folder or no such file: what was looked for, and how to get it.
        """
        if root is None:
            raise DataMissing(
                f"'{cls.folder}' needs a data root (root=, --data or VEDETTE_DATA), the folder that holds '{cls.folder}/{name}'; {cls.how}"
            )
        if not root.is_dir():
            raise DataMissing(f"data root '{root}' is no folder; {cls.how}")
        path = cls.place_of(root, name)
        if path is None:
            raise DataMissing(f"neither '{root / cls.folder / name}' nor '{root / name}' is there, plain or with .gz; {cls.how}")
        return path

    @classmethod
    def place_of(cls, root: Path | None, name: str) -> Path | None:
        folders = () if root is None else (root / cls.folder, root)
        paths = (folder / f"{name}{suffix}" for folder in folders for suffix in ("", ".gz"))
        return next((path for path in paths if path.is_file()), None)

    def load(self, root: Path | None, seed: int = 0) -> Dataset:
        """Read the data set, or take it from the cache; see `Loader.load`."""
        del seed
        sources = self.sources(root)
        about = {"loader": f"{type(self).__module__}:{type(self).__qualname__}", "settings": self.model_dump(mode="json")}
        return cached(self.folder or "files", about, sources, lambda matrix: self.read(sources, matrix))

    @abstractmethod
    def sources(self, root: Path | None) -> Mapping[str, Path]:
        """Find the files to read.

        Parameters
        ----------
        root
            The data root (or the folder of the data set itself); None if no root was given.

        Returns
        -------
        Mapping
            The files, in the order in which they are read, by what `read` knows them as.

        Raises
        ------
        DataMissing
            The root, the folder or a file is absent: which, and how to get it.
        """

    @abstractmethod
    def read(self, sources: Mapping[str, Path], matrix: NewMatrix) -> Dataset:
        """Read the files.

        Parameters
        ----------
        sources
            From `sources`; nothing else may decide what comes out but these, their content and the settings.
        matrix
            Starts a matrix for the numbers of a table.

        Raises
        ------
        DataBroken
            A file cannot be read as its official layout says: file and line.
        """
