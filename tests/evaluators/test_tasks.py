"""Tests of the registry of tasks: names, options, and mistakes that are named."""

from pathlib import Path

import pytest

from primordium.errors import ConfigError, PluginError
from primordium.evaluators.digits import digits
from primordium.evaluators.tasks import TASKS, get_task


def test_the_built_in_tasks_are_there_with_their_options(tmp_path: Path) -> None:
    """A name and options give the task that the function gives."""
    assert TASKS.names()[:2] == ("digits", "glyphs")
    assert get_task("digits").fingerprint() == digits().fingerprint()
    small = get_task("glyphs", classes=3, per_class=10, cache_dir=str(tmp_path))
    assert getattr(small, "classes", None) == 3
    assert len(small.train) + len(small.validation) + len(small.held_out) == 30


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"classes": 3}, "task 'digits': unknown option 'classes'; options: none"),
        ("glyphs", {"class": 3}, "task 'glyphs': unknown option 'class'; options: classes, per_class, seed"),
        ("glyphs", {"classes": "all"}, "task 'glyphs': classes is 'all': Input should be a valid integer"),
        ("glyphs", {"classes": 0}, "classes"),
    ],
)
def test_a_wrong_option_names_the_task_and_what_would_be_right(
    name: str, options: dict[str, object], message: str
) -> None:
    """Every mistake in the task's section is found before the run."""
    with pytest.raises(ConfigError, match=message):
        get_task(name, **options)


def test_an_unknown_task_suggests_a_known_one() -> None:
    """Protects the one who mistypes a task."""
    with pytest.raises(PluginError, match="unknown task 'digit'; did you mean digits"):
        get_task("digit")
