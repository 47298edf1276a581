"""A folder belongs to one question: the same goes on there, every other is refused and changes nothing."""

import json
from datetime import datetime
from functools import partial

import pytest

from ep_hw import versions
from ep_hw.evaluation.folders import Question, claim, claimed, folder_for
from mapping import Refusal

ASKED = Question.of("ep-hw evaluate digits", ["evaluate", {"seed": 0}, "digest of the network"], "images")
OTHER = Question.of("ep-hw evaluate digits --seed 1", ["evaluate", {"seed": 1}, "digest of the network"], "images")
NOON = datetime(2026, 11, 28, 12)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_question_goes_on_and_another_is_refused_by_its_command(tmp_path):
    claim(tmp_path / "run", ASKED)
    (tmp_path / "run" / "report.html").write_text("mine")
    before = files(tmp_path / "run")
    claim(tmp_path / "run", ASKED)
    with pytest.raises(Refusal, match=r"another question; got ep-hw evaluate digits; .*choose another --out"):
        claim(tmp_path / "run", OTHER)
    assert files(tmp_path / "run") == before


def test_the_same_command_that_asks_another_question_says_so(tmp_path):
    """A user's device or plug-in, which it names, was edited."""
    claim(tmp_path, ASKED)
    edited = Question.of(ASKED.command, ["another device"], ASKED.images)
    with pytest.raises(Refusal, match="got ep-hw evaluate digits, with other settings, files or versions than now;"):
        claim(tmp_path, edited)


def test_a_folder_with_other_files_is_not_taken(tmp_path):
    (tmp_path / ".hidden").write_text("")
    claim(tmp_path, ASKED)
    (tmp_path / "question.json").unlink()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Refusal, match=r"got thesis\.tex"):
        claim(tmp_path, ASKED)
    assert set(files(tmp_path)) == {".hidden", "thesis.tex"}


def left_by(folder, question, *inner):
    """What is in a folder after a refusal, some folders and files having been made in it."""
    def refuse():
        with claimed(folder, question):
            for path in inner:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text("") if "." in path else (folder / path).mkdir()
            raise Refusal("no", where="here", got="1", allowed="2", remedy="3")

    with pytest.raises(Refusal):
        refuse()
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else None


def test_a_refusal_leaves_nothing_of_a_new_folder_and_all_of_an_old_one(tmp_path):
    assert left_by(tmp_path / "a" / "b", ASKED, "cells", "family/x") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".hidden").mkdir()
    assert left_by(tmp_path, ASKED, "cells") == [".hidden"]
    assert left_by(tmp_path / "c", ASKED, "cells/1.arrow") == ["cells", "cells/1.arrow", "question.json"]
    claim(tmp_path / "d", ASKED)
    assert left_by(tmp_path / "d", ASKED) == ["question.json"]
    assert left_by(tmp_path / "d", OTHER) == ["question.json"]


def test_commands_that_are_refused_late_leave_no_folder(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("evaluate", "digits", "--on", "reference", "--alone", "--images", 2)
    assert "no such part" in refused(*command, "--again", "loihi:clean", "--out", "new/run")
    assert "no such part" in refused(*command, "--only", "loihi:clean")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{}", '{"command": "x", "digest": "0"}', "[" * 999, "\xff"])
def test_a_folder_whose_question_cannot_be_read_is_not_taken(tmp_path, content):
    (tmp_path / "question.json").write_text(content)
    with pytest.raises(Refusal, match="cannot tell which question"):
        claim(tmp_path, ASKED)


def test_a_question_is_everything_asked_and_the_code_that_answers(monkeypatch):
    asked = ["evaluate", {"seed": 0}, "digest of the network"]
    assert Question.of("another spelling", asked, "images").digest == ASKED.digest
    assert Question.of("", [*asked[:2], "digest of another"], "images").digest != ASKED.digest
    monkeypatch.setattr(versions, "VERDICT", 99)
    assert Question.of("", asked, "images").digest != ASKED.digest


def test_the_same_question_of_other_images_is_answered_again_and_it_is_said(tmp_path, caplog):
    claim(tmp_path, ASKED)
    claim(tmp_path, ASKED)
    assert not caplog.messages
    claim(tmp_path, ASKED.model_copy(update={"images": "others"}))
    assert "the images are others than before" in caplog.text
    assert json.loads((tmp_path / "question.json").read_text())["images"] == "others"


def test_where_no_folder_is_named_each_question_has_its_own_and_finds_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = folder_for("evaluate", "my $net", lambda: pytest.fail("no folder to look into"), NOON)
    assert first.name == "ep-hw-evaluate-my-net-20261128-120000"
    claim(first, ASKED)
    second = folder_for("evaluate", "my $net", lambda: OTHER, NOON)
    assert second.name == "ep-hw-evaluate-my-net-20261128-120000-1"
    claim(second, OTHER)
    later = NOON.replace(hour=13)
    assert [folder_for("evaluate", "my $net", partial(Question.model_copy, asked), later)
            for asked in (ASKED, OTHER)] == [first, second]


def test_a_command_run_twice_goes_on_and_another_command_leaves_the_folder_alone(ep_hw, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("uncertainty", "digits", "--on", "reference", "--size", "0.1", "--draws", 1, "--images", 2)
    assert ep_hw(*command)[0] == ep_hw(*command)[0] == 0
    (folder,) = tmp_path.glob("ep-hw-uncertainty-digits-*")
    before = files(folder)
    assert json.loads(before["question.json"])["command"].startswith("ep-hw ")
    assert "the folder belongs to another question" in refused(*command, "--seed", 1, "--out", folder)
    assert files(folder) == before
    assert ep_hw(*command, "--seed", 1)[0] == 0
    assert len(list(tmp_path.glob("ep-hw-uncertainty-digits-*"))) == 2
