"""Training and evaluation of the project's networks; needs the `train` extra."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

import stream_enhance  # noqa: F401 - before onnxruntime, whose telemetry it turns off

# For one release: the commands that were modules here, now `python -m train.enhancer NAME`.
OLD_COMMANDS = ("adapt", "evaluate", "explain", "export", "gather", "people", "real", "report", "shards", "train")


class OldCommand(MetaPathFinder, Loader):
    """Finds `python -m train.NAME` for each of OLD_COMMANDS and runs the new command with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for a command that moved, else None; see ``importlib.abc.MetaPathFinder``."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == "train" and name in OLD_COMMANDS else None

    def get_code(self, fullname: str) -> CodeType:
        """What runpy runs as __main__."""
        text = f"import sys\nfrom train.enhancer.cli import renamed\nsys.exit(renamed({fullname!r}))\n"
        return compile(text, fullname, "exec")

    def exec_module(self, module: ModuleType) -> None:
        """Raise ImportError with the module's new name."""
        name = module.__name__.removeprefix("train.")
        raise ImportError(f"train.{name} is now train.enhancer.{name}", name=module.__name__)


sys.meta_path.append(OldCommand())
