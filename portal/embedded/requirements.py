"""Print the dependencies of pyproject.toml, the development ones included, for `pip install -r`. Needs only Python."""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path) -> list[str]:
    """Return the requirement strings of the project and of its `dev` extra."""
    project = tomllib.loads(pyproject.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]))))
