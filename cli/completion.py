"""Shell completion of all commands, written from their parsers: scripts for bash, zsh and fish."""

import argparse
import importlib
import re
import shlex
from typing import Any

from . import COMMANDS
from .parser import Parser

# Templates (Jinja), with the name, the arguments and the options of each command. Where nothing is offered, bash and
# fish complete file names.
_BASH = """\
{% macro offer(words) %}COMPREPLY=($(compgen -W "{{ words | join(" ") }}" -- "$2")){% endmacro %}
{% for name, first, later, options in commands %}
_{{ name }}() {
  COMPREPLY=()
  case $3 in
{% for option in options if option.takes_value %}
    {{ option.names | join("|") }}) {{ offer(option.words) + "; " if option.words }}return ;;
{% endfor %}
  esac
  if [[ $2 == -* ]]; then {{ offer(options | sum("names", [])) }}
{% if first %}
  elif [[ $COMP_CWORD == 1 ]]; then {{ offer(first) }}
{% endif %}
{% if later %}
  else {{ offer(later) }}
{% endif %}
  fi
}
complete -o default -F _{{ name }} {{ name }}
{% endfor %}
"""
_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
{% for name, first, later, options in commands %}
_{{ name }}() {
  _arguments \\
{% if first %}
    '1:first:({{ first | join(" ") }})' \\
{% endif %}
{% for option in options %}
{% set words = option.words | join(" ") %}
{% set values = "(" + words + ")" if option.only else "{compadd " + words + "; _files}" if words else "_files" %}
{% for name in option.names %}
    {{ ("*" + name + "[" + option.text | escaped + "]" + (":value:" + values) * option.takes_value) | quote }} \\
{% endfor %}
{% endfor %}
    '*:name:{{ "(" + later | join(" ") + ")" if later else "_files" }}'
}
compdef _{{ name }} {{ name }}
{% endfor %}
"""
# Single letters are old-style words too (-o): otherwise -csa-format would be -c with a value.
_FISH = """\
{% for name, first, later, options in commands %}
{% if first %}
complete -c {{ name }} -n __fish_is_first_arg -x -a '{{ first | join(" ") }}'
{% endif %}
{% if later %}
complete -c {{ name }} -n 'not __fish_is_first_arg' -a '{{ later | join(" ") }}'
{% endif %}
{% for option in options %}
complete -c {{ name }}
{%- for word in option.names %} {{ "-l" if word.startswith("--") else "-o" }} {{ word.lstrip("-") }}{% endfor %}
 -d {{ option.text | quote }}
{%- if option.takes_value %}{{ " -x" if option.only else " -r -F" }}{% endif %}
{%- if option.words %} -a '{{ option.words | join(" ") }}'{% endif %}

{% endfor %}
{% endfor %}
"""


def script(shell: str) -> str:
    """The script that makes ``shell`` (bash, zsh or fish) complete the options of all commands."""
    from jinja2 import Environment

    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["quote"] = shlex.quote
    environment.filters["escaped"] = lambda text: re.sub(r"([\[\]:\\])", r"\\\1", text)
    template = environment.from_string({"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell])
    known = _known()
    return template.render(commands=[_command(name, known) for name in ("sct7t", *COMMANDS)]).strip()


def _known() -> dict[str, list[str]]:
    """What the zoo offers: values of arguments, by their names in the parsers."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    models = list(dict.fromkeys(spec.id for spec in manifest.models))
    tasks = [name for name, entry in manifest.tasks().items() if entry["outputs"]]
    return {"task": tasks, "model": models, "names": [*models, *(spec.name for spec in manifest.datasets)]}


def _command(name: str, known: dict[str, list[str]]) -> tuple[str, list[str], list[str], list[dict[str, Any]]]:
    """A command as a shell sees it: its name, words that its first and later arguments can be, and its options."""
    parser: Parser = importlib.import_module(f".{name}", __package__).parser()
    # The options of all verbs together: a shell offers some too many rather than none.
    parsers = (parser, *parser.verbs.values())
    arguments = [action for each in parsers for action in each._actions if not action.option_strings]
    words = {word: action for each in parsers for word, action in each.words.items()}
    named: dict[argparse.Action, list[str]] = {}
    for word, action in words.items():
        named.setdefault(action, []).append(word)
    options = [
        {
            "names": names,
            "takes_value": action.nargs != 0,
            # Values to offer, and whether there are no others.
            "words": list(action.choices or known.get(action.dest, ())),
            "only": bool(action.choices),
            # The first clause of the help.
            "text": re.split(r"; | \(", action.help or "")[0].strip(),
        }
        for action, names in named.items()
    ]
    first = list(next((action.choices for action in arguments if action.choices), ()))
    later = next((known[action.dest] for action in arguments if action.dest in known), [])
    return parser.prog, first, later, options
