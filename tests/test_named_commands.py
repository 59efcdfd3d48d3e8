"""Every command that a message, a docstring or a document names is one that there is."""

import argparse
import ast
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import offlinerlkit_romi
from offlinerlkit_romi import cli
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import takes

PACKAGE = Path(offlinerlkit_romi.__file__).parent
ROOT = PACKAGE.parent
VERBS = "train|evaluate|compare|sweep|select|report|data|bench"
NAMED = re.compile(rf"offlinerlkit-romi ((?:{VERBS})\b[^`\n\"'#;]*)|`((?:{VERBS}) [^`\n]+)`")
# what stands for a value in a text
VALUES = {
    **dict.fromkeys(("<algo>", "{algo}", "ALGO", "A"), "romi"),
    **dict.fromkeys(
        ("T", "TASK", "{name}", "<task>", "{named}", "TASK|SOURCE"), "hopper-medium-v2"
    ),
    **dict.fromkeys(("XI", "W"), "1"),
}
LEFT_OUT = re.compile(r"\.\.\.|…|\[options\]|\(.*|\w+=.*\)|\[--fix OUT\]")
INCOMPLETE = ("required", "expected", "is missing")


class Parsed(BaseException):
    """The parser has understood the words."""


def texts() -> Iterator[tuple[str, str]]:
    """The place and the text of every string of the package and of every document."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield path.name, "".join(_part(value) for value in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path.name, node.value
    documents = (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"))
    for path in documents:
        if path.name != "CHANGELOG.md":  # which tells of what was
            yield path.name, path.read_text()


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.FormattedValue)
    return "{" + re.sub(r"\W.*", "", ast.unparse(node.value).rpartition(".")[2]) + "}"


def commands() -> list[tuple[str, str]]:
    """Each command that is named somewhere, with the place."""
    found = {
        (place, " ".join((match[1] or match[2]).replace("&&", "").split()))
        for place, text in texts()
        for match in NAMED.finditer(text.replace("\\\n", " "))
    }
    return sorted(found)


def spelt_out(command: str) -> list[list[str]]:
    """The words of a command; of each one where alternatives are named: `data list|fetch`."""
    choices = [word.split("|") for word in words_of(command)]
    return [list(words) for words in itertools.product(*choices)]


def words_of(command: str) -> list[str]:
    told = command.replace("[--algo A --task T --data d4rl]", "--algo A")
    told = LEFT_OUT.sub("", told.replace("--task ...", "--task T"))
    words = (VALUES.get(word, word) for word in re.split(r"\s+", told.strip(" .,:")))
    return [word for word in words if not re.fullmatch(r"\{.*\}|TASK.*|", word)]


Understood = Callable[[list[str]], str]


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Understood:
    """What the command line's own parser says against words; "" where it takes them."""
    original = argparse.ArgumentParser.parse_args

    def stop(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        original(self, *args, **kwargs)
        raise Parsed

    def ask(words: list[str]) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", stop)
            try:
                status = cli.main(words)
            except Parsed:
                return ""
        message = capsys.readouterr().err
        return message if status else ""

    return ask


def check(words: list[str], understood: Understood, capsys: Any) -> None:
    verb, flags = words[0], [w.partition("=")[0] for w in words[1:] if w.startswith("--")]
    if verb in ("train", "compare"):
        _check_training(words, flags, capsys)
        return
    message = understood(words)
    if any(word in message for word in INCOMPLETE):  # a command named in part
        place = words[:2] if verb == "data" and len(words) > 1 else words[:1]
        assert not understood([*place, "--help"]), words
        assert cli.main([*place, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(re.search(rf"{flag}\b", shown) for flag in flags), (words, shown)
    else:
        assert not message, (words, message)


def _check_training(words: list[str], flags: list[str], capsys: Any) -> None:
    algo = words[1] if len(words) > 1 and not words[1].startswith("-") else "romi"
    if algo.partition("=")[0] in ("name", "qfilter"):  # somebody's own, of TD3+BC's kind
        algo = "td3bc"
    assert algo in ALGORITHMS, words
    if "--task" in words:
        get_task(words[words.index("--task") + 1])
    assert cli.main([words[0], "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in flags:
        known = flag in ("--help", "--seeds") or takes(algo, flag)
        assert known or re.search(rf"{flag}\b", shown), (words, flag)


def test_every_named_command_is_understood(
    understood: Understood, capsys: pytest.CaptureFixture[str]
) -> None:
    found = commands()
    assert len(found) > 50
    unknown = []
    for place, command in found:
        for words in spelt_out(command):
            try:
                check(words, understood, capsys)
            except (AssertionError, UserError) as error:
                unknown.append(f"{place}: {command}: {str(error)[:300]}")
    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize(
    "command",
    [
        "data check FILE",
        "data doctor FILE --mend OUT",
        "data doctor --mend",
        "train rombo --task hopper-medium-v2",
        "train romi --taks hopper-medium-v2",
        "train romi --task hopper-medum-v2",
        "compare --algoz romi",
        "bench --quik",
    ],
)
def test_a_command_that_there_is_not_is_seen(
    command: str, understood: Understood, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((AssertionError, UserError)):
        for words in spelt_out(command):
            check(words, understood, capsys)
