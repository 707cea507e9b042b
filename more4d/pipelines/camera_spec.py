"""A camera that was asked for, by a command line, a list or the API: a named path or a file, with modifiers.

Command lines and job lists are checked with this module before torch is imported.
"""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.cameras.formats import OTHER_SUFFIXES, OURS, SUFFIXES, check_suffix
from more4d.cameras.options import AS_WRITTEN, CameraOptions, parse_camera_text
from more4d.files.tables import portable_path
from more4d.foundation.errors import InputError
from more4d.geometry.camera_recipes import CAMERA_PATHS, check_camera_path_name

if TYPE_CHECKING:
    from more4d.cameras.adoption import Adopted
    from more4d.cameras.raw_path import RawCameraPath
    from more4d.geometry.camera import Camera, CameraPath

TASTE, VLM = "taste", "vlm"
_log = logging.getLogger(__name__)
OF_FILES = ("scale", "lens", "convention")
"""Options that named paths have not, as `level`."""
UNNAMED = "camera"
"""What a file without a stem is called."""
AUTO = re.compile(r"auto(?::(?P<count>\d+))?(?P<options>(?::.*)?)")
MOST_CHOSEN = 6
DEFAULT_FRAMES, DENSE_FRAMES = 49, 961
"""Of a film, if no number is asked for, and of a path that is changed (960 = 80 x 12)."""
DEFAULT_FPS, DEFAULT_SECONDS = 12.0, 4.0
AT_PHOTO_M, AT_PHOTO_DEG = 0.05, 5.0
"""What a path may begin away from the photo, in its own unit."""


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """A camera path that was asked for: one of the named ones, or a file.

    Attributes:
        path_name: the key of `CAMERA_PATHS`, or the stem of the file with its part.
        file: ours or one of `cameras.formats.FORMATS`; a folder for COLMAP; None for a named path.
        format: of the file, if the user says it.
        part: which of several cameras of the file.
        options: what is asked of the path besides.
        choose: how many paths are to be chosen for the scene in its place (`pipelines.camera_choice`).
    """

    path_name: str
    file: Path | None = None
    format: str | None = None
    part: str | None = None
    options: CameraOptions = AS_WRITTEN
    choose: int = 0

    def __post_init__(self) -> None:
        if self.file is None and self.options.anchor and not self.options.reverse:  # the same film again
            raise InputError(
                f"camera '{self}': 'anchor' does nothing, as a named path begins at the photo unless it is "
                "reversed; leave it out"
            )

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> "CameraSpec":
        """What a command line or a job list calls a camera: see `cameras.options`.

        Args:
            folder: that a relative path starts from; by default the working directory.

        Raises:
            InputError: a modifier is none, or has an impossible value.
        """

        def place(name: str) -> Path:
            return Path(name) if folder is None or not name else portable_path(folder, name)

        auto = AUTO.fullmatch(text)
        if auto is not None and not place(text).exists():
            count = int(auto["count"] or 1)
            if not 1 <= count <= MOST_CHOSEN:
                raise InputError(f"'{text}' asks for {count} paths; give auto:1 to auto:{MOST_CHOSEN}")
            options = parse_camera_text(f"auto{auto['options']}", lambda _: False).options
            if options.strength != 1:
                raise InputError(
                    f"'{text}': strengths are chosen as well; give auto, or auto:2 for two paths"
                )
            return cls(path_name="auto" if count == 1 else f"auto-{count}", options=options, choose=count)

        found = parse_camera_text(text, lambda name: bool(name) and place(name).exists())
        path = place(found.source)
        # Decided here only: everything else asks `file`.
        is_file = found.source.lower().endswith((*SUFFIXES, *OTHER_SUFFIXES)) or (
            found.source and path.exists()
        )
        part = f"#{found.part}" if found.part else ""
        if found.format is None and (found.source in CAMERA_PATHS or not is_file):
            return cls(path_name=found.source + part, options=found.options)
        return cls(
            # a part is text of a file, and this is the name of a folder
            path_name=_file_name(path) + re.sub(r"[^\w.-]+", "_", part.replace("#", "-", 1)),
            file=path,
            format=found.format,
            part=found.part,
            options=found.options,
        )

    def __str__(self) -> str:
        if self.choose:
            return f"auto{'' if self.choose == 1 else f':{self.choose}'}{self.options.text}"
        return self._written(self.path_name if self.file is None else str(self.file))

    def _written(self, source: str) -> str:
        said = f"{self.format}=" if self.format else ""
        part = f"#{self.part}" if self.part else ""
        return f"{said}{source}{part}{self.options.text}"

    @property
    def short(self) -> str:
        """As `str`, with the file's name alone, for messages after one that had its path."""
        plain = self.file is None or self.file.is_dir()
        return str(self) if self.choose else self._written(self.path_name if plain else self.file.name)

    @property
    def name(self) -> str:
        """Of the path and of the folder of its film: it says all that is asked of the path."""
        return self.path_name + self.options.suffix

    def with_options(self, options: CameraOptions) -> "CameraSpec":
        """The same with options for whatever its own do not say; a named path takes none of files."""
        if self.file is None:
            options = replace(options, **dict.fromkeys(OF_FILES), level=False)
            if not (self.options.reverse or options.reverse):  # it begins at the photo
                options = replace(options, anchor=None)
        return replace(self, options=self.options.over(options))

    def check(self, frames: int | None = None) -> None:
        """Refuse a name that does not exist, and a file that holds no camera path; say what a file is.

        Args:
            frames: of the film; 0: not known yet.

        Raises:
            InputError: lists the names, or says what is wrong with the file.
        """
        self.check_source()
        if self.file is None:
            return
        from more4d.files.depth_and_cameras import distance_from_photo
        from more4d.geometry.camera import Camera

        adopted = self.adopt(frames=DEFAULT_FRAMES, source=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)
        depth_m = math.inf if adopted.metric else 1.0
        lines = list(adopted.notes)
        if adopted.source != OURS:
            lines += adopted.jump_notes(depth_m, frames)
        metres, degrees = distance_from_photo(adopted.path)
        if metres > AT_PHOTO_M or degrees > AT_PHOTO_DEG:
            lines.append(
                f"it does not begin at the photo ({metres:.2g} away and turned by {degrees:.0f} degrees); if "
                'it is of another world, add :anchor=first, or "start": "photo" in a file of keyframes, '
                "which moves and turns all of it"
            )
        for index, line in enumerate(lines):  # its whole path is said once
            _log.warning("%s: %s", self.short if index else self, line)

    def check_source(self) -> None:
        """Refuse a name that does not exist, and a file of no known format.

        Raises:
            InputError: as `check`.
        """
        if self.file is None:
            if not self.choose:
                check_camera_path_name(self.path_name)
            for option in (*OF_FILES, "level"):
                if getattr(self.options, option):
                    raise InputError(f"camera {self}: '{option}' is about a file, and a named path has none")
            return
        if not self.file.exists():  # before torch is imported
            raise InputError(
                f"cannot read {self.file}: No such file or directory; give a camera path file "
                "(.json with keyframes) or one of the formats that more4d camera formats lists"
            )
        if not self.file.is_dir():
            check_suffix(self.file)  # torch is imported by readers
        if not self._is_ours:
            _ = self._from_file

    def content(self) -> str:
        """What identifies the path in a run record: its name, or the content of its file; and its options."""
        from more4d.files.atomic import file_fingerprint

        if self.file is None:
            return f"{self.path_name}{self.options.text}"
        if self._is_ours:
            return f"{file_fingerprint(self.file)}{self.options.text}"
        return f"{self._from_file.fingerprint()}{self.options.text}"

    def sample(
        self, *, frames: int, source: "Camera", scene_depth_m: float, seconds: float = DEFAULT_SECONDS
    ) -> "CameraPath":
        """The path with `frames` poses; arguments and errors as `adopt`."""
        return self.adopt(frames=frames, source=source, scene_depth_m=scene_depth_m, seconds=seconds).path

    def adopt(
        self, *, frames: int, source: "Camera", scene_depth_m: float, seconds: float = DEFAULT_SECONDS
    ) -> "Adopted":
        """The path with `frames` poses, and how it came to be.

        Args:
            source: intrinsics of the image.
            scene_depth_m: metres per unit of the path, `DepthMap.scene_depth_m`.
            seconds: duration of the film.

        Raises:
            InputError: as `check`.
        """
        from more4d.cameras.adoption import Adopted, adopt_path, raw_of_path, still_notes

        if self.choose:
            raise InputError(f"'{self}' is chosen for a scene while it is made; name a path or a file")
        ours, options = self.file is None or self._is_ours, self.options
        if ours:
            made, options = self._made(frames if self._is_plain() else None, source, scene_depth_m)
            if self._is_plain():
                notes = () if self.file is None else still_notes(made)
                about = {"metres_per_unit": 1.0, "reason": "it is ours", "source": OURS}
                return Adopted(path=made, notes=notes, **about)
            raw = raw_of_path(made)
        else:
            raw = self._from_file
        return adopt_path(
            raw,
            name=self.name,
            frames=frames,
            camera=source,
            scene_depth_m=scene_depth_m,
            options=options,
            seconds=seconds,
        )

    def _is_plain(self) -> bool:
        """Whether nothing is asked besides what the path says, but the strength of a named one."""
        options = replace(self.options, strength=1.0) if self.file is None else self.options
        return not options.changes_path

    @cached_property
    def _is_ours(self) -> bool:
        from more4d.cameras.registry import camera_format

        return self.file is not None and (self.format or camera_format(self.file)) == OURS

    def raw(self) -> "RawCameraPath | None":
        """The file's own path, if it is of another program and nothing is asked besides.

        Raises:
            InputError: as `check`.
        """
        return None if self.file is None or self._is_ours or self.options.changes_path else self._from_file

    @cached_property
    def _from_file(self) -> "RawCameraPath":
        """What the file holds, read once: all photos of a run share the spec."""
        from more4d.cameras.registry import read_camera_file

        return read_camera_file(
            Path(self.file or ""), format=self.format, part=self.part, convention=self.options.convention
        )

    def _made(
        self, frames: int | None, source: "Camera", scene_depth_m: float
    ) -> "tuple[CameraPath, CameraOptions]":
        """A named path or one of our files, and the options that are still to be applied to it.

        Args:
            frames: None for a path that is changed afterwards: its own poses, or many.
        """
        options = self.options
        if self.file is None:
            from more4d.geometry.poses import named_camera_path

            path = named_camera_path(
                self.path_name,
                frames=frames or DENSE_FRAMES,
                scene_depth_m=scene_depth_m,
                camera=source,
                strength=options.strength,
            )
            # The table is in scene depths already.
            return replace(path, name=self.name), replace(options, strength=1.0, scale=None)
        from more4d.cameras.registry import frames_of_ours
        from more4d.files.depth_and_cameras import load_camera_path

        frames = frames or frames_of_ours(self.file) or DENSE_FRAMES
        # A scale that is asked for takes the place of the file's unit.
        unit = scene_depth_m if options.scale is None else 1.0
        return load_camera_path(self.file, frames=frames, camera=source, scene_depth_m=unit), options


@dataclass(frozen=True, kw_only=True)
class CameraChooser:
    """Who likes which path, where cameras are chosen: a taste, or a vision-language model.

    Attributes:
        kind: "taste" or "vlm".
        source: the file or folder.
    """

    kind: str
    source: Path

    @classmethod
    def parse(cls, text: str) -> "CameraChooser":
        """`taste=FILE` or `vlm=FOLDER`.

        Raises:
            InputError: it is neither.
        """
        kind, _, source = text.partition("=")
        if kind not in (TASTE, VLM) or not source.strip():
            raise InputError(f"'{text}' is no chooser of cameras; give {TASTE}=FILE or {VLM}=FOLDER")
        return cls(kind=kind, source=Path(source))

    def check(self, cameras: Iterable[Any]) -> None:
        """Refuse what is not there, and what has nothing to choose among `cameras`.

        Raises:
            InputError: names the file or folder.
        """
        if not any(getattr(camera, "choose", 0) for camera in cameras):
            raise InputError(f"a chooser ({self}) needs a camera to choose; give --camera auto")
        if self.kind == TASTE and not self.source.is_file():
            raise InputError(f"there is no file {self.source}; more4d camera learn writes one")
        if self.kind == VLM and not self.source.is_dir():
            raise InputError(f"there is no folder {self.source}; give that of a vision-language model")

    def __str__(self) -> str:
        return f"{self.kind}={self.source}"

    def content(self) -> list[Any]:
        """What identifies it in a run record."""
        from more4d.files.atomic import file_fingerprint

        if self.kind == TASTE:
            return [self.kind, file_fingerprint(self.source)]
        # Of gigabytes of weights the names and sizes.
        return [self.kind, sorted([each.name, each.stat().st_size] for each in self.source.iterdir())]


def _file_name(path: Path) -> str:
    """What a path of a file is called: of a COLMAP model `garden/sparse/0` it is `garden`."""
    # COLMAP numbers its models; the name is that of the folder above
    while path.is_dir() and (path.name.isdigit() or path.name == "sparse") and path.parent != path:
        path = path.parent
    # The name is that of a folder: of `...json` it would be `..`, the folder above.
    ends = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    stem = path.name[: -len(ends[0])] if ends else path.name
    return stem if stem.strip(".") else UNNAMED


def parse_cameras(texts: Iterable[str]) -> tuple[CameraSpec, ...]:
    """Each camera once, in order."""
    return tuple(CameraSpec.parse(text) for text in dict.fromkeys(texts))
