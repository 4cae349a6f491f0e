"""Keep a retriever's documents as a folder has them: look again every few seconds, send what changed."""

from collections.abc import Callable
from pathlib import Path

from capstan.jobs.corpus.build import build_folder
from capstan.jobs.corpus.errors import CorpusError
from capstan.jobs.corpus.load import Loaded, Retriever, load_corpus
from capstan.jobs.corpus.progress import Steps

Wait = Callable[[float], object]


class Watch:
    """One folder and one tenant of one retriever. `done` exists once the folder has been loaded as it is."""

    def __init__(self, folder: Path, out: Path, target: Retriever, steps: Steps, done: Path, *, prune: bool) -> None:
        self._folder, self._out, self._target, self._steps = folder, out, target, steps
        self._done, self._prune = done, prune

    def run(self, every_s: float, wait: Wait, rounds: int | None = None) -> None:
        """Look, then wait, `rounds` times or until interrupted. A round that fails is said once and tried again."""
        said = ""
        while rounds is None or rounds > 0:
            try:
                said = self._look(said)
            except (CorpusError, OSError) as error:
                if said != (said := f"{error}; tried again every {every_s:g} s"):
                    self._steps.say(said)
            rounds = None if rounds is None else rounds - 1
            wait(every_s)

    def _look(self, said: str) -> str:
        built = build_folder(self._folder, self._out, self._steps)
        if built.fresh:
            self._done.unlink(missing_ok=True)  # whatever becomes of the load: the next look tries it again
        if self._done.exists():
            return said
        loaded: Loaded = load_corpus(self._out, self._target, self._steps, prune=self._prune)
        self._done.touch()
        self._steps.say(str(loaded))
        return ""
