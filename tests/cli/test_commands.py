"""What all commands have in common: help, words, errors by name, exit codes, completion, streams."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
from sctseg7t.cli import COMMANDS
from sctseg7t.cli.completion import script
from sctseg7t.cli.run import Command, Progress, tell

from sctseg7t import __version__
from sctseg7t.errors import InputError, ModelError

posix = pytest.mark.skipif(os.name == "nt", reason="pipes and shells are other things on Windows")
SHELLS = ("bash", "zsh", "fish")


def parser_of(name):
    return import_module(f"sctseg7t.cli.{name}").parser()


def parsers():
    """Every command's parser and those of its verbs."""
    for parser in map(parser_of, ("sct7t", *COMMANDS)):
        yield from (parser, *parser.verbs.values())


every_parser = pytest.mark.parametrize("parser", [pytest.param(each, id=each.prog) for each in parsers()])


@pytest.fixture
def run(call):
    """Run a command in this process: (exit code, stdout, stderr)."""
    return lambda name, *argv: call(import_module(f"sctseg7t.cli.{name}").main, [str(arg) for arg in argv])


def test_every_command_is_installed(root):
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    scripts = settings["options.entry_points"]["console_scripts"].split("\n")[1:]
    own = [f"sct7t_{name} = sctseg7t.cli.{name}:command" for name in COMMANDS]
    assert scripts == ["sct7t = sctseg7t.cli.sct7t:command", *own]


# ---------------------------------------------------------------- help


@every_parser
def test_help_fits_the_terminal_and_names_each_option_once(parser, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = parser.format_help()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert text.startswith(f"usage: {parser.prog} ") and "exit codes: 0 " in text
    heads = re.findall(r"^  (-\S.*?)(?:  |$)", text, flags=re.M)
    shown = [word.lstrip("-") for head in heads for word in head.replace(",", "").split() if word.startswith("-")]
    assert sorted(shown) == sorted({option.lstrip("-") for option in parser.words})


@pytest.mark.parametrize("name", COMMANDS)
def test_answers(run, name):
    for word in ("-h", "-help", "--help"):
        code, out, err = run(name, word)
        assert (code, err) == (0, "") and out.startswith(f"usage: sct7t_{name} ")
    assert run(name, "-version") == run(name, "--version") == (0, f"{__version__}\n", "")


def test_help_imports_only_the_standard_library():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from importlib import import_module\n"
        f"for name in {COMMANDS!r}: assert import_module('sctseg7t.cli.' + name).main(['-h']) == 0\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(tops - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['sctseg7t']"


# ---------------------------------------------------------------- words


@every_parser
def test_every_word_has_both_dash_forms_and_one_meaning(parser):
    for name, action in parser.words.items():
        word = name.lstrip("-")
        if len(word) > 1:
            assert parser.words[f"-{word}"] is parser.words[f"--{word}"] is action
    meaning = {"-i": "input", "-o": "output", "-m": "model", "-c": "task", "-v": "verbose", "-h": "help"}
    assert {name: action.dest for name, action in parser.words.items() if name in meaning}.items() <= meaning.items()


@pytest.mark.parametrize(
    "word, said",
    [
        ("-ofoldr", "did you mean -ofolder?"),
        ("--ofoldr=x", "did you mean --ofolder?"),
        ("-ii", "did you mean -i?"),
        ("-csaformat", "did you mean -csa-format?"),
        ("-center", "did you mean -centerline?"),
        ("--threshold", "did you mean --thr?"),
        ("-thr0.5", "did you mean -thr?"),
        ("-v0", "did you mean -v?"),
        ("-o name", "see sct7t_deepseg -help"),
        ("--x", "see sct7t_deepseg -help"),
    ],
)
def test_unknown_options_are_refused_by_name(run, scan, word, said):
    code, out, err = run("deepseg", "-i", scan, word)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"sct7t_deepseg: error: unknown option {word}; ") and said in err
    assert [path.name for path in scan.parent.iterdir()] == [scan.name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_what_it_does_not_know(run, name):
    code, out, err = run(name, "-nonsense")
    assert (code, out) == (2, "") and err.startswith(f"sct7t_{name}: error: unknown option -nonsense; ")


def test_values_that_begin_with_a_dash():
    args = parser_of("deepseg").parse_args(["-i=-a.nii.gz", "-o=-b", "-series", "-3"])
    assert (args.input, args.output, args.series) == (["-a.nii.gz"], "-b", "-3")
    assert parser_of("compare").parse_args(["-o", "x", "-method", "a=-b", "-ref=-c"]).ref == ["-c"]
    assert parser_of("qc").parse_args(["-i", "-", "-title", "- pilot -"]).title == "- pilot -"


def test_lists_may_be_given_in_several_parts():
    args = parser_of("deepseg").parse_args(["-i", "a", "b", "-soft", "--input", "c"])
    assert args.input == ["a", "b", "c"]


@pytest.mark.parametrize(
    "argv, said",
    [
        (["deepseg"], ": error: the following arguments are required: -i/--input"),
        (["deepseg", "-i", "x", "-thr", "half"], ": error: -thr half: give a number above 0 and below 1"),
        (["deepseg", "-i", "x", "-remove-small", "3 apples"], ": error: -remove-small 3 apples: give a size"),
        (["deepseg", "-i", "x", "-csa-format", "xlsx"], ": error: -csa-format invalid choice: 'xlsx'"),
        (["compare", "-o", "x", "-trim", "0.5"], ": error: -trim 0.5: give a number at least 0 and below 0.5"),
        (["compare", "-m", "ours=results", "-o", "x"], ": error: unknown option -m; did you mean -method?"),
        (["batch", "-o", "x", "-timeout", "inf"], ": error: -timeout inf: give a number above 0"),
        (["batch", "-o", "x", "-workers", "two"], ": error: -workers two: give a whole number at least 1"),
        (["train", "-o", "x", "-model-version", "2"], ": error: -model-version 2: give three numbers"),
        (["qc", "-o"], ": error: -o expected one argument"),
        (["download", "fetch"], ": error: VERB invalid choice: 'fetch'"),
        (["download", "install", "x", "-ofline"], " install: error: unknown option -ofline; did you mean -offline?"),
    ],
)
def test_values_are_refused_by_name(run, argv, said):
    code, out, err = run(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"sct7t_{argv[0]}{said}")


# ---------------------------------------------------------------- how a command ends


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (None, 0, ""),
        (ModelError("net.onnx: is damaged"), 2, "sct7t_qc: error: net.onnx: is damaged\n"),
        (InputError("t2s.nii.gz: is empty"), 1, "sct7t_qc: error: t2s.nii.gz: is empty\n"),
        (ImportError("No module named 'torch'"), 2, "pip install 'sctseg7t[train]'"),
        (KeyboardInterrupt(), 130, "sct7t_qc: nothing was written\n"),
    ],
)
def test_exit_codes(capsys, raised, code, said):
    def body(args):
        if raised:
            raise raised
        return 0

    main = Command(lambda: parser_of("qc"), body, "nothing was written", partial=(InputError,), extra="train")
    assert main([]) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == (code > 0)


@posix
def test_a_reader_that_has_seen_enough_gets_no_traceback():
    line = [sys.executable, "-m", "sctseg7t.cli.deepseg", "-list-tasks"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        assert running.stderr.read() == "" and running.wait() == 141


@posix
def test_streams_that_are_closed_or_cannot_show_a_name(scan, tmp_path):
    path = tmp_path / "é.nii.gz"
    shutil.copy(scan, path)
    command = f"{sys.executable} -m sctseg7t.cli.deepseg -i {path} -c sc -no-csa -device cpu -threads 1"
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    for end in ("", " >&-"):
        done = subprocess.run(command + end, shell=True, capture_output=True, text=True, env=env, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert ("\\xe9_seg.nii.gz" in done.stdout) == (end == "")


def test_progress_on_a_terminal_and_in_a_pipe(capsys, monkeypatch):
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        with Progress(2) as bar:
            bar.update()
            bar.write("a.nii.gz: is empty")
            bar.reach(2, 2)
        _, err = capsys.readouterr()
        assert "a.nii.gz: is empty\n" in err and ("2/2" in err) == terminal
    # Of a single scan the part that is done, once that is known.
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        with Progress(1) as bar:
            bar.within("network", 0.4)
            bar.update()
        _, err = capsys.readouterr()
        assert ("network" in err and " 40%" in err and "100%" in err) == terminal
    with Progress(1):
        pass
    with Progress(2, shown=False) as bar:
        bar.within("network", 0.4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("terminal", "plain"), [(True, ""), (True, "1"), (False, "")])
def test_the_weight_of_a_message_has_a_colour_on_a_terminal(capsys, monkeypatch, terminal, plain):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", plain)
    tell("sct7t_qc: error: an error: here")
    err = capsys.readouterr().err
    assert ("\033[" in err) == (terminal and not plain)
    assert re.sub(r"\033\[[\d;]*m", "", err) == "sct7t_qc: error: an error: here\n" and err.endswith("an error: here\n")


# ---------------------------------------------------------------- completion


@posix
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_option_and_is_read_by_the_shell(run, tmp_path, shell):
    code, lines, _ = run("qc", "-completion", shell)
    assert code == 0
    for parser in parsers():
        assert parser.prog.split()[0] in lines
        for name in parser.words:
            old_style = f"-l {name[2:]}" if name.startswith("--") else f"-o {name[1:]}"
            assert (old_style if shell == "fish" else name) in lines
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(lines)
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def bash():
    """The script for bash."""
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    return script("bash")


@posix
@pytest.mark.parametrize(
    "words, offered",
    [
        (["sct7t_deepseg", "-i", "a", "b", "--ofo"], ["--ofolder"]),
        (["sct7t_deepseg", "-csa-format", ""], ["tidy", "sct"]),
        (["sct7t_deepseg", "-o", ""], []),
        (["sct7t_batch", "--task", "brain"], ["brain_lesion", "brain_new_lesion"]),
        (["sct7t_download", "exp"], ["export"]),
        (["sct7t_download", "install", "PAM"], ["PAM50"]),
        (["sct7t_prepare", ""], ["dicom", "bias", "mask", "normalise", "resample"]),
    ],
)
def test_bash_completes(bash, words, offered):
    line = " ".join(f"'{word}'" for word in words)
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _{words[0]} {words[0]} '{words[-1]}' '{words[-2]}'"
    code = f'{bash}\n{asked}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered
