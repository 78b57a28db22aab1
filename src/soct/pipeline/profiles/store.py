"""Where the profiles and site files that come with soct are found, and how a name becomes a file."""

from __future__ import annotations

import difflib
from pathlib import Path

import soct
from soct.errors import ConfigurationError

DEFAULT_PROFILE = "default"


def shipped_folder() -> Path:
    """Return the folder of the shipped profiles: inside the wheel, or beside ``src`` in a source tree."""
    package = Path(soct.__file__).resolve().parent
    inside = package / "profiles"
    return inside if inside.is_dir() else package.parents[1] / "profiles"


def shipped_profiles() -> dict[str, Path]:
    """Return the shipped profiles by name, sorted."""
    return _yaml_files(shipped_folder())


def shipped_sites() -> dict[str, Path]:
    """Return the shipped site files by name, sorted."""
    return _yaml_files(shipped_folder() / "sites")


def find_profile(name_or_path: str | Path) -> Path:
    """Return the file of a profile.

    Parameters
    ----------
    name_or_path : str or Path
        The name of a shipped profile, or a path: whatever holds a separator or ends in .yaml or .yml.

    Raises
    ------
    ConfigurationError
        If there is no such profile; names that resemble it are suggested.
    """
    return _find(name_or_path, shipped_profiles(), "profile")


def find_site(name_or_path: str | Path) -> Path:
    """Return the file of a site; as `find_profile`."""
    return _find(name_or_path, shipped_sites(), "site")


def suggest(word: str, known: list[str]) -> str:
    """Return ``did you mean ...?`` with the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name of more than 255 bytes
        return False


def _yaml_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _find(name_or_path: str | Path, shipped: dict[str, Path], kind: str) -> Path:
    text = str(name_or_path)
    path = Path(name_or_path)
    is_path = isinstance(name_or_path, Path) or path.name != text
    if is_path or path.suffix in (".yaml", ".yml"):
        if not _exists(path):
            hint = f"A shipped {kind} is given by its name alone: {', '.join(shipped)}."
            raise ConfigurationError(f"There is no such {kind} file.", file=path, hint=hint)
        return path
    if text in shipped:
        return shipped[text]
    hint = suggest(text, list(shipped))
    if _exists(path):
        hint = f"for the file of that name write ./{text}"
    raise ConfigurationError(
        f"There is no {kind} named {text!r}.",
        expected=f"one of {', '.join(shipped)}, or the path of a .yaml file",
        hint=hint or None,
    )
